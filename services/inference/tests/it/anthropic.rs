//! Anthropic's Messages API, spoken well and badly by a server of this machine.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use mesh_api::inference::{Chunk, CompleteRequest, Completion};
use mesh_types::Code;
use serde_json::{Value, json};

use crate::fake::{Log, kept_alive, serve, streamed};
use crate::setup::{IMPATIENT_MS, Mesh, patience};

const KEY: &str = "sk-ant-api03-0123456789";
const EVENTS: &str = "text/event-stream; charset=utf-8";
const PING: &str = "event: ping\ndata: {\"type\": \"ping\"}\n\n";

async fn start() -> (Mesh, Log) {
    start_with(|_| ()).await
}

async fn start_with(change: impl FnOnce(&mut inference::Config)) -> (Mesh, Log) {
    let log = Log::default();
    let app = axum::Router::new()
        .route("/v1/messages", post(messages))
        .route(
            "/v1/models",
            get(|| async { Json(json!({"data": [{"type": "model", "id": "claude-good"}], "has_more": false})) }),
        )
        .with_state(log.clone());
    let url = serve(app).await;
    let mesh = Mesh::start_with(|config| {
        config.anthropic_api_key = Some(KEY.into());
        let mut declared = inference::ProviderConfig::of(inference::ProviderKind::Anthropic);
        declared.base_url = Some(url);
        config.providers.insert("anthropic".to_owned(), declared);
        change(config);
    })
    .await;
    (mesh, log)
}

async fn messages(State(log): State<Log>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let times = log.add("/v1/messages", &headers, &body);
    let error = |status: u16, kind: &str, message: &str| {
        let error = json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"});
        (StatusCode::from_u16(status).unwrap(), Json(error)).into_response()
    };
    let key = headers
        .get("x-api-key")
        .and_then(|key| key.to_str().ok())
        .unwrap_or_default();
    if key != KEY {
        return error(401, "authentication_error", &format!("invalid x-api-key {key}"));
    }
    match body["model"].as_str().unwrap() {
        "claude-good" => streamed(EVENTS, &(begin() + &text(0, &["Доб", "рий день"]) + &end("end_turn"))),
        "claude-tools" if body["messages"].as_array().unwrap().len() == 1 => {
            let call = event(&json!({"type": "content_block_start", "index": 1,
                "content_block": {"type": "tool_use", "id": "toolu_7", "name": "lookup", "input": {}}}));
            let pieces = piece(1, &json!({"type": "input_json_delta", "partial_json": "{\"city\":"}))
                + &piece(1, &json!({"type": "input_json_delta", "partial_json": "\"Lviv\"}"}));
            streamed(
                EVENTS,
                &(begin() + &text(0, &["Let me see. "]) + &call + &pieces + &end("tool_use")),
            )
        }
        "claude-tools" => streamed(EVENTS, &(begin() + &text(0, &["It rains."]) + &end("end_turn"))),
        "claude-structured" => {
            let call = event(&json!({"type": "content_block_start", "index": 0,
                "content_block": {"type": "tool_use", "id": "toolu_7", "name": body["tools"][0]["name"], "input": {}}}));
            let input = piece(
                0,
                &json!({"type": "input_json_delta", "partial_json": "{\"city\":\"Lviv\"}"}),
            );
            streamed(EVENTS, &(begin() + &call + &input + &end("tool_use")))
        }
        "claude-limited" if times == 1 => {
            let mut response = error(
                429,
                "rate_limit_error",
                "Number of request tokens has exceeded your limit",
            );
            response.headers_mut().insert("retry-after", "0".parse().unwrap());
            response
        }
        "claude-limited" => streamed(EVENTS, &(begin() + &text(0, &["Now."]) + &end("end_turn"))),
        "claude-full" => error(529, "overloaded_error", "Overloaded"),
        "claude-broken" => {
            let error =
                event(&json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}));
            streamed(EVENTS, &(begin() + &text(0, &["Half an"]) + &error))
        }
        "claude-leaky" => {
            let error = json!({"type": "error", "error": {"type": "api_error", "message": format!("bad {KEY}")}});
            streamed(EVENTS, &(begin() + &event(&error)))
        }
        "claude-short" => streamed(EVENTS, &(begin() + &text(0, &["Half an"]))),
        "claude-mute" => kept_alive(EVENTS, &begin(), PING),
        "claude-stalled" => kept_alive(EVENTS, &(begin() + &text(0, &["Wait"])), PING),
        other => error(404, "not_found_error", &format!("model: {other}")),
    }
}

fn event(event: &Value) -> String {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())
}

fn begin() -> String {
    let usage = json!({"input_tokens": 20, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 50,
                       "output_tokens": 1});
    event(
        &json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
        "content": [], "model": "claude", "stop_reason": null, "stop_sequence": null, "usage": usage}}),
    ) + PING
}

fn piece(index: usize, delta: &Value) -> String {
    event(&json!({"type": "content_block_delta", "index": index, "delta": delta}))
}

fn text(index: usize, pieces: &[&str]) -> String {
    let start = json!({"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}});
    let pieces = pieces
        .iter()
        .map(|text| piece(index, &json!({"type": "text_delta", "text": text})));
    event(&start) + &pieces.collect::<String>() + &event(&json!({"type": "content_block_stop", "index": index}))
}

fn end(reason: &str) -> String {
    event(
        &json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null},
                  "usage": {"output_tokens": 12}}),
    ) + &event(&json!({"type": "message_stop"}))
}

fn request(model: &str) -> CompleteRequest {
    serde_json::from_value(json!({"model": model, "messages": [
        {"role": "system", "content": "You are Sofia."}, {"role": "user", "content": "hello"}]}))
    .unwrap()
}

async fn answer(mesh: &Mesh, request: &CompleteRequest) -> Completion {
    mesh.complete(request).await.0.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_claude_streams_with_all_its_counts() {
    let (mesh, log) = start().await;
    let (result, chunks) = mesh.complete(&request("claude-good")).await;
    let done = result.unwrap();
    assert_eq!(
        (done.text.as_str(), done.provider.as_str()),
        ("Добрий день", "anthropic")
    );
    assert_eq!(done.finish_reason, "stop");
    let texts: Vec<_> = chunks[1..].iter().collect();
    assert_eq!(texts, [&Chunk::Text("Доб".into()), &Chunk::Text("рий день".into())]);
    assert_eq!(
        (done.usage.input_tokens, done.usage.output_tokens, done.cached_tokens),
        (100, 12, 50)
    );
    let asked = &log.of("claude-good")[0];
    assert_eq!(asked.headers["x-api-key"], KEY);
    assert_eq!(asked.headers["anthropic-version"], "2023-06-01");
    assert!(asked.headers.get("authorization").is_none());
    assert_eq!(asked.body["system"][0]["text"], "You are Sofia.");
    assert_eq!(asked.body["messages"][0]["role"], "user");
    assert_eq!(asked.body["max_tokens"], 4_096);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_tools_go_there_and_back() {
    let (mesh, log) = start().await;
    let mut asked = request("claude-tools");
    asked.tools = vec![json!({"type": "function", "function": {"name": "lookup", "parameters": {"type": "object"}}})];
    let first = answer(&mesh, &asked).await;
    assert_eq!(
        (first.text.as_str(), first.finish_reason.as_str()),
        ("Let me see. ", "tool_calls")
    );
    let call = json!({"id": "toolu_7", "type": "function",
                      "function": {"name": "lookup", "arguments": "{\"city\":\"Lviv\"}"}});
    assert_eq!(first.tool_calls, [call]);
    let more = json!([{"role": "assistant", "content": first.text, "tool_calls": first.tool_calls},
                      {"role": "tool", "tool_call_id": "toolu_7", "content": "rain"}]);
    asked.messages.extend(serde_json::from_value::<Vec<_>>(more).unwrap());
    assert_eq!(answer(&mesh, &asked).await.text, "It rains.");
    let sent = &log.of("claude-tools")[1].body["messages"];
    assert_eq!(sent[1]["content"][1]["input"], json!({"city": "Lviv"}));
    assert_eq!(sent[2]["content"][0]["tool_use_id"], "toolu_7");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_follows_its_schema() {
    let (mesh, log) = start().await;
    let mut asked = request("claude-structured");
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    asked.response_schema = Some(schema.clone());
    let done = answer(&mesh, &asked).await;
    assert_eq!(
        (done.text.as_str(), done.finish_reason.as_str()),
        ("{\"city\":\"Lviv\"}", "stop")
    );
    assert!(done.tool_calls.is_empty());
    assert_eq!(log.of("claude-structured")[0].body["tools"][0]["input_schema"], schema);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_claude_does_wrong_is_told_and_the_fallback_answers() {
    let (mesh, log) = start_with(|config| patience(config, IMPATIENT_MS)).await;
    for (model, tries, part) in [
        ("claude-full", 2, "529: Overloaded"),
        ("claude-broken", 2, "529: Overloaded"),
        ("claude-short", 2, "cut"),
        ("claude-mute", 2, "sent no token"),
        ("claude-stalled", 2, "fell silent"),
        ("claude-gone", 1, "404: model: claude-gone"),
    ] {
        let mut asked = request(model);
        asked.fallbacks = vec!["mock".to_owned()];
        let (result, chunks) = mesh.complete(&asked).await;
        let done = result.unwrap();
        assert_eq!(done.provider, "mock", "{model}");
        let reason = &done.failed[0].reason;
        assert!(reason.contains(part), "{model}: {reason}");
        assert_eq!(log.of(model).len(), tries, "{model}: {reason}");
        let last = chunks
            .iter()
            .rposition(|chunk| matches!(chunk, Chunk::Attempt(_)))
            .unwrap();
        let shown: String = chunks[last..]
            .iter()
            .filter_map(|chunk| match chunk {
                Chunk::Text(text) => Some(text.as_str()),
                Chunk::Attempt(_) => None,
            })
            .collect();
        assert_eq!(shown, done.text, "{model}: what came before is void");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_account_is_asked_once_more() {
    let (mesh, log) = start().await;
    assert_eq!(answer(&mesh, &request("claude-limited")).await.text, "Now.");
    assert_eq!(log.of("claude-limited").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropics_key_never_comes_back() {
    let (mesh, _) = start().await;
    let problem = mesh.complete(&request("claude-leaky")).await.0.unwrap_err();
    assert!(
        problem.detail.contains("***") && !problem.detail.contains(KEY),
        "{problem:?}"
    );
    let log = Log::default();
    let app = axum::Router::new()
        .route("/v1/messages", post(messages))
        .with_state(log);
    let url = serve(app).await;
    let denied = Mesh::start_with(|config| {
        config.anthropic_api_key = Some("sk-ant-another".into());
        let mut declared = inference::ProviderConfig::of(inference::ProviderKind::Anthropic);
        // With or without the version's path.
        declared.base_url = Some(format!("{url}/v1"));
        config.providers.insert("anthropic".to_owned(), declared);
    })
    .await;
    let problem = denied.complete(&request("claude-good")).await.0.unwrap_err();
    assert!(problem.is(Code::ModelFailed), "{problem:?}");
    assert!(
        problem.detail.contains("401") && !problem.detail.contains("another"),
        "{problem:?}"
    );
}
