//! An OpenAI-compatible model that counts: it streams what it was told, late or not at all where a script says so.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::aside::Aside;

/// What the model does with a prompt whose last user message contains `of`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    pub(crate) of: String,
    pub(crate) delay: Duration,
    /// An HTTP status instead of an answer.
    pub(crate) fails: Option<u16>,
}

/// One call, noted when it comes.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) said: String,
    pub(crate) key: String,
}

#[derive(Debug, Default)]
struct Kept {
    calls: Vec<Call>,
    scripts: Vec<Script>,
}

type Shared = Arc<Mutex<Kept>>;

/// On a thread of its own, so that meshes of other tests may use it; ends with this value.
pub(crate) struct FakeModel {
    kept: Shared,
    aside: Aside,
}

impl FakeModel {
    pub(crate) fn start() -> Self {
        let kept = Shared::default();
        let router = Router::new()
            .route("/v1/chat/completions", post(complete))
            .with_state(Arc::clone(&kept));
        let aside = Aside::serve(router);
        Self { kept, aside }
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.aside.port)
    }

    /// From now on; the newest script that fits counts.
    pub(crate) fn script(&self, script: Script) {
        lock(&self.kept).scripts.push(script);
    }

    /// Every call so far whose last user message contains `of`.
    pub(crate) fn calls(&self, of: &str) -> Vec<Call> {
        let kept = lock(&self.kept);
        let fits = |call: &&Call| call.said.contains(of);
        kept.calls.iter().filter(fits).cloned().collect()
    }
}

fn lock(kept: &Shared) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn complete(State(kept): State<Shared>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let said = last_user_text(&body);
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
    let script = {
        let mut kept = lock(&kept);
        kept.calls.push(Call {
            said: said.clone(),
            key: key.unwrap_or_default().to_owned(),
        });
        let fits = |script: &&Script| said.contains(&script.of);
        kept.scripts.iter().rev().find(fits).cloned()
    };
    let script = script.unwrap_or_default();
    tokio::time::sleep(script.delay).await;
    if let Some(status) = script.fails {
        let status = StatusCode::from_u16(status).expect("a status");
        let error = json!({"error": {"message": "as the test asked"}});
        return (status, Json(error)).into_response();
    }
    let chunks = events(&format!("The model heard: {said}"));
    let chunks = chunks.into_iter().map(Ok::<_, Infallible>);
    let body = Body::from_stream(futures::stream::iter(chunks));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

/// Word by word, then the usage, then the end mark.
fn events(text: &str) -> Vec<Bytes> {
    let word = |word: &str| json!({"choices": [{"index": 0, "delta": {"content": word}}]});
    let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 7}});
    let words = text.split_inclusive(' ').map(word);
    let events = words.chain([end, usage]).map(|event| event.to_string());
    events
        .chain(["[DONE]".to_owned()])
        .map(|event| format!("data: {event}\n\n").into())
        .collect()
}

fn last_user_text(body: &Value) -> String {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let last = messages.iter().rev().find(|message| message["role"] == "user");
    match last.map(|message| &message["content"]) {
        Some(Value::String(text)) => text.clone(),
        Some(blocks) => blocks.to_string(),
        None => String::new(),
    }
}
