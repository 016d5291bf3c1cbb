//! Vectors by OpenAI's `/embeddings` and by the mock, and the list of models.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use inference::{ProviderConfig, ProviderKind};
use mesh_api::execution::Empty;
use mesh_api::inference::{Embed, EmbedRequest, Embedded, ModelList, Models};
use mesh_types::{Code, Problem};
use serde_json::{Value, json};

use crate::fake::{Log, serve};
use crate::fake_openai::KEY;
use crate::setup::{IMPATIENT_MS, Mesh, patience};

async fn start() -> (Mesh, Log) {
    let log = Log::default();
    let app = axum::Router::new()
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/models", get(models))
        .route("/slow/models", get(std::future::pending::<Response>))
        .route("/dripping/models", get(dripping))
        .with_state(log.clone());
    let url = serve(app).await;
    let mesh = Mesh::start_with(|config| {
        // Two of them never answer.
        patience(config, IMPATIENT_MS);
        config.embedding_api_url = Some(format!("{url}/v1/embeddings"));
        let mut slow = ProviderConfig::of(ProviderKind::Openai);
        slow.base_url = Some(format!("{url}/slow"));
        slow.models = vec!["qwen".to_owned()];
        let mut dripping = slow.clone();
        dripping.base_url = Some(format!("{url}/dripping"));
        config.providers.insert("dripping".to_owned(), dripping);
        config.providers.insert("slow".to_owned(), slow);
        let price = inference::Price {
            input: 20.0,
            ..inference::Price::default()
        };
        config.prices.insert("bge-*".to_owned(), price);
    })
    .await;
    (mesh, log)
}

/// A list that never ends and never falls silent.
async fn dripping() -> Response {
    let drops = futures::stream::unfold(tokio::time::interval(Duration::from_millis(100)), |mut drip| async {
        drip.tick().await;
        Some((Ok::<_, std::convert::Infallible>(" "), drip))
    });
    Body::from_stream(drops).into_response()
}

/// Each vector is the length of its text and a one; they come last first, as the wire allows.
async fn embeddings(State(log): State<Log>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let times = log.add("/v1/embeddings", &headers, &body);
    let error = |status: u16, message: &str| {
        let error = json!({"error": {"message": message, "type": "x"}});
        (StatusCode::from_u16(status).unwrap(), Json(error)).into_response()
    };
    if headers
        .get("authorization")
        .is_none_or(|value| value != format!("Bearer {KEY}").as_str())
    {
        return error(
            401,
            &format!("Incorrect API key provided: {:?}", headers.get("authorization")),
        );
    }
    let texts: Vec<&str> = body["input"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let numbers = |text: &str| json!([text.len(), 1.0]);
    // 4.0 and 1.0 as little-endian floats.
    let base64 = |_: &str| json!("AACAQAAAgD8=");
    let model = body["model"].as_str().unwrap();
    let vector: &dyn Fn(&str) -> Value = if model == "bge-base64" { &base64 } else { &numbers };
    let items = texts.iter().enumerate().rev();
    let mut items: Vec<Value> = items
        .map(|(index, text)| json!({"object": "embedding", "index": index, "embedding": vector(text)}))
        .collect();
    match model {
        "bge-limited" if times == 1 => {
            let mut response = error(429, "slow down");
            response.headers_mut().insert("retry-after", "0".parse().unwrap());
            return response;
        }
        "bge-down" => return error(503, "no"),
        "bge-leaky" => return error(400, &format!("bad {KEY}")),
        "bge-short" => drop(items.pop()),
        _ => {}
    }
    Json(json!({"object": "list", "data": items, "model": model, "usage": {"prompt_tokens": 50_000, "total_tokens": 50_000}}))
        .into_response()
}

async fn models(State(log): State<Log>, headers: HeaderMap) -> Json<Value> {
    log.add("/v1/models", &headers, &Value::Null);
    Json(json!({"object": "list", "data": [{"id": "bge-m3", "object": "model"}, {"id": "gpt-4", "object": "model"}]}))
}

async fn embed(mesh: &Mesh, model: &str, texts: &[&str]) -> Result<Embedded, Problem> {
    let asked = EmbedRequest {
        model: model.to_owned(),
        texts: texts.iter().map(|&text| text.to_owned()).collect(),
        dimensions: None,
    };
    mesh.context.bus.call::<Embed>(&mesh.caller(), &asked).await
}

async fn list(mesh: &Mesh) -> ModelList {
    mesh.context
        .bus
        .call::<Models>(&mesh.caller(), &Empty {})
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_come_in_the_order_of_the_texts_and_are_paid() {
    let (mesh, log) = start().await;
    let embedded = embed(&mesh, "bge-m3", &["one", "three"]).await.unwrap();
    assert_eq!(embedded.vectors, [[3.0, 1.0], [5.0, 1.0]]);
    assert_eq!(
        (embedded.model.as_str(), embedded.provider.as_str()),
        ("bge-m3", "embedding")
    );
    assert_eq!(embedded.usage.input_tokens, 50_000);
    assert!(
        (embedded.usage.cost_usd - 1.0).abs() < 1e-9,
        "50,000 at 20 dollars a million"
    );
    assert_eq!(log.of("bge-m3")[0].body["input"], json!(["one", "three"]));
    assert_eq!(
        embed(&mesh, "bge-base64", &["four"]).await.unwrap().vectors,
        [[4.0, 1.0]]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedder_that_fails_is_asked_again_where_that_helps() {
    let (mesh, log) = start().await;
    assert_eq!(embed(&mesh, "bge-limited", &["one"]).await.unwrap().vectors.len(), 1);
    assert_eq!(log.of("bge-limited").len(), 2);
    for (model, tries, code, part) in [
        ("bge-down", 2, Code::ModelFailed, "503"),
        ("bge-short", 1, Code::ModelFailed, "1 vectors for 2 texts"),
        ("bge-leaky", 1, Code::ModelRefused, "***"),
    ] {
        let problem = embed(&mesh, model, &["one", "two"]).await.unwrap_err();
        assert!(
            problem.is(code) && problem.detail.contains(part),
            "{model}: {problem:?}"
        );
        assert!(
            !problem.detail.contains(KEY) && problem.next.is_some(),
            "{model}: {problem:?}"
        );
        assert_eq!(log.of(model).len(), tries, "{model}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_embedded_is_refused_by_name() {
    let (mesh, log) = start().await;
    let long = "a".repeat(32 * 1024 + 1);
    for (texts, field) in [
        (vec![], "texts"),
        (vec!["a"; 257], "texts"),
        (vec!["a", ""], "texts[1]"),
        (vec![long.as_str()], "texts[0]"),
    ] {
        let problem = embed(&mesh, "bge-m3", &texts).await.unwrap_err();
        assert!(problem.is(Code::InvalidRequest), "{problem:?}");
        assert_eq!(problem.field.as_deref(), Some(field));
    }
    assert!(embed(&mesh, "mock", &["a"]).await.unwrap_err().is(Code::ModelNotFound));
    assert!(
        embed(&mesh, "anthropic/claude", &["a"])
            .await
            .unwrap_err()
            .is(Code::ProviderNotConfigured)
    );
    assert_eq!(log.at("/v1/embeddings"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mock_embeds_without_a_network() {
    let (mesh, log) = start().await;
    let embedded = embed(&mesh, "mock:embed", &["green tea", "Green tea!"]).await.unwrap();
    assert_eq!((embedded.provider.as_str(), embedded.vectors[0].len()), ("mock", 384));
    assert_eq!(embedded.vectors[0], embedded.vectors[1]);
    assert!(embedded.usage.cost_usd.abs() < 1e-12);
    assert_eq!(log.at("/v1/embeddings"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_says_what_providers_have_each_model_once() {
    let (mesh, log) = start().await;
    let first = list(&mesh).await;
    let find = |name: &str| {
        let found: Vec<_> = first.items.iter().filter(|item| item.name == name).collect();
        assert_eq!(found.len(), 1, "{name}: {first:?}");
        (found[0].provider.as_str(), found[0].available)
    };
    assert_eq!(find("bge-m3"), ("embedding", true));
    // `gpt-4` by its bare name is another provider's for a chat, and this one's for vectors.
    assert_eq!(find("slow/qwen"), ("slow", false), "it does not answer in time");
    assert_eq!(find("dripping/qwen"), ("dripping", false), "nor to its end");
    assert_eq!(find("claude-*"), ("anthropic", false));
    assert!(find("mock:embed").1);
    let mut names: Vec<_> = first.items.iter().map(|item| &item.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), first.items.len());
    assert_eq!(list(&mesh).await, first);
    assert_eq!(log.at("/v1/models"), 1, "asked once a minute");
}
