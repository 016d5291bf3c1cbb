//! Ollama's own API, spoken well and badly by a server of this machine.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use inference::{ProviderConfig, ProviderKind};
use mesh_api::execution::Empty;
use mesh_api::inference::{CompleteRequest, Embed, EmbedRequest, Models};
use mesh_types::Code;
use serde_json::{Value, json};

use crate::fake::{Log, kept_alive, serve, streamed};
use crate::setup::{IMPATIENT_MS, Mesh, patience};

const LINES: &str = "application/x-ndjson";

async fn start() -> (Mesh, Log) {
    start_with(|_| ()).await
}

async fn start_with(change: impl FnOnce(&mut inference::Config)) -> (Mesh, Log) {
    let log = Log::default();
    let app = axum::Router::new()
        .route("/api/chat", post(chat))
        .route("/api/generate", post(generate))
        .route("/api/embed", post(embed))
        .route("/api/tags", get(tags))
        .with_state(log.clone());
    let url = serve(app).await;
    let mesh = Mesh::start_with(|config| {
        config.openai_base_url = None;
        config.openai_api_key = None;
        config.ollama_url = Some(url.clone());
        let mut base = ProviderConfig::of(ProviderKind::Ollama);
        base.base_url = Some(url);
        base.generate = true;
        config.providers.insert("base".to_owned(), base);
        change(config);
    })
    .await;
    (mesh, log)
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

fn said(text: &str) -> String {
    line(&json!({"model": "m", "created_at": "2026-01-01T00:00:00Z",
                 "message": {"role": "assistant", "content": text}, "done": false}))
}

fn done() -> String {
    line(
        &json!({"model": "m", "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": "stop",
                 "prompt_eval_count": 26, "eval_count": 5, "total_duration": 1}),
    )
}

async fn chat(State(log): State<Log>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    log.add("/api/chat", &headers, &body);
    match body["model"].as_str().unwrap() {
        "llama3" => streamed(LINES, &(said("Доб") + &said("рий день") + &done())),
        "tools" if body["messages"].as_array().unwrap().len() == 1 => {
            let call = json!({"function": {"name": "lookup", "arguments": {"city": "Lviv"}}});
            let message = json!({"role": "assistant", "content": "", "tool_calls": [call]});
            streamed(LINES, &(line(&json!({"message": message, "done": false})) + &done()))
        }
        "tools" => streamed(LINES, &(said("It rains.") + &done())),
        "json" => streamed(LINES, &(said("{\"city\":") + &said("\"Lviv\"}") + &done())),
        "broken" => streamed(
            LINES,
            &(said("Half") + &line(&json!({"error": "llama runner process has terminated"}))),
        ),
        "short" => streamed(LINES, &said("Half")),
        "stalled" => kept_alive(LINES, &said("Wait"), "\n"),
        other => {
            let error = json!({"error": format!("model '{other}' not found")});
            (StatusCode::NOT_FOUND, Json(error)).into_response()
        }
    }
}

async fn generate(State(log): State<Log>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    log.add("/api/generate", &headers, &body);
    let piece = |text: &str| line(&json!({"model": "m", "response": text, "done": false}));
    let end = json!({"model": "m", "response": "", "done": true, "done_reason": "length", "context": [1, 2],
                     "prompt_eval_count": 4, "eval_count": 2});
    streamed(LINES, &(piece("there ") + &piece("was") + &line(&end)))
}

async fn embed(State(log): State<Log>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    log.add("/api/embed", &headers, &body);
    let texts = body["input"].as_array().unwrap();
    let vectors: Vec<Value> = texts
        .iter()
        .map(|text| json!([text.as_str().unwrap().len(), 1.0]))
        .collect();
    Json(json!({"model": "m", "embeddings": vectors, "total_duration": 1, "prompt_eval_count": 8})).into_response()
}

async fn tags() -> Json<Value> {
    Json(
        json!({"models": [{"name": "llama3:latest", "model": "llama3:latest", "size": 1},
                           {"name": "nomic-embed-text:v1.5", "size": 1}]}),
    )
}

fn request(model: &str) -> CompleteRequest {
    serde_json::from_value(json!({"model": model, "messages": [{"role": "user", "content": "hello"}]})).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_ollama_streams() {
    let (mesh, log) = start().await;
    let mut asked = request("llama3");
    asked.max_tokens = Some(7);
    let (result, chunks) = mesh.complete(&asked).await;
    let answer = result.unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.provider.as_str()),
        ("Добрий день", "ollama")
    );
    assert_eq!((answer.usage.input_tokens, answer.usage.output_tokens), (26, 5));
    assert_eq!(chunks.len(), 3, "{chunks:?}");
    let sent = &log.of("llama3")[0];
    assert_eq!(
        (sent.path.as_str(), &sent.body["options"]["num_predict"]),
        ("/api/chat", &json!(7))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ollama_calls_tools_and_hears_their_results() {
    let (mesh, log) = start().await;
    let mut asked = request("tools");
    asked.tools = vec![json!({"type": "function", "function": {"name": "lookup"}})];
    let first = mesh.complete(&asked).await.0.unwrap();
    assert_eq!(first.finish_reason, "tool_calls");
    assert_eq!(first.tool_calls[0]["function"]["arguments"], "{\"city\":\"Lviv\"}");
    let id = first.tool_calls[0]["id"].as_str().unwrap().to_owned();
    let more = json!([{"role": "assistant", "content": "", "tool_calls": first.tool_calls},
                      {"role": "tool", "tool_call_id": id, "content": "rain"}]);
    asked.messages.extend(serde_json::from_value::<Vec<_>>(more).unwrap());
    assert_eq!(mesh.complete(&asked).await.0.unwrap().text, "It rains.");
    let sent = &log.of("tools")[1].body["messages"];
    assert_eq!(
        sent[1]["tool_calls"][0]["function"]["arguments"],
        json!({"city": "Lviv"})
    );
    assert_eq!(sent[2]["tool_name"], "lookup");
}

#[tokio::test(flavor = "multi_thread")]
async fn ollama_is_told_the_schema() {
    let (mesh, log) = start().await;
    let mut asked = request("json");
    asked.response_schema = Some(json!({"type": "object", "required": ["city"]}));
    assert_eq!(mesh.complete(&asked).await.0.unwrap().text, "{\"city\":\"Lviv\"}");
    assert_eq!(log.of("json")[0].body["format"], asked.response_schema.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_a_template_goes_on_with_a_text() {
    let (mesh, log) = start().await;
    let answer = mesh.complete(&request("base/gpt2")).await.0.unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.finish_reason.as_str()),
        ("there was", "length")
    );
    assert_eq!(answer.provider, "base");
    let sent = &log.of("gpt2")[0];
    assert_eq!(
        (sent.path.as_str(), &sent.body["prompt"]),
        ("/api/generate", &json!("hello"))
    );
    let mut tools = request("base/gpt2");
    tools.tools = vec![json!({"type": "function", "function": {"name": "lookup"}})];
    let refused = mesh.complete(&tools).await.0.unwrap_err();
    assert!(
        refused.is(Code::ModelRefused) && refused.detail.contains("no tools"),
        "{refused:?}"
    );
    assert_eq!(log.of("gpt2").len(), 1, "it was not asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ollama_does_wrong_is_told() {
    let (mesh, log) = start_with(|config| patience(config, IMPATIENT_MS)).await;
    for (model, tries, part) in [
        ("broken", 2, "runner process has terminated"),
        ("short", 2, "cut"),
        ("stalled", 2, "fell silent"),
        ("absent", 1, "404: model 'absent' not found"),
    ] {
        let problem = mesh.complete(&request(model)).await.0.unwrap_err();
        assert!(problem.detail.contains(part), "{model}: {problem:?}");
        assert_eq!(log.of(model).len(), tries, "{model}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ollama_says_what_it_has_and_embeds() {
    let (mesh, _) = start().await;
    let list = mesh
        .context
        .bus
        .call::<Models>(&mesh.caller(), &Empty {})
        .await
        .unwrap();
    let of = |provider: &str| -> Vec<&str> {
        let items = list
            .items
            .iter()
            .filter(|item| item.provider == provider && item.available);
        items.map(|item| item.name.as_str()).collect()
    };
    assert_eq!(of("ollama"), ["llama3", "nomic-embed-text:v1.5"]);
    assert_eq!(of("base"), ["base/llama3", "base/nomic-embed-text:v1.5"]);
    let asked = EmbedRequest {
        model: "nomic-embed-text".into(),
        texts: vec!["one".into(), "three".into()],
        dimensions: None,
    };
    let embedded = mesh.context.bus.call::<Embed>(&mesh.caller(), &asked).await.unwrap();
    assert_eq!(embedded.vectors, [[3.0, 1.0], [5.0, 1.0]]);
    assert_eq!((embedded.provider.as_str(), embedded.usage.input_tokens), ("ollama", 8));
}
