//! The world outside of the mesh, on loopback: a ledger of tools, a remote agent, an MCP server and a model. It notes
//! when each call came, with which key, when it was answered, and whether the caller hung up before.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::harness::Aside;

/// Of a call that is to hang until its caller goes away; no test lasts so long.
const FOR_EVER: Duration = Duration::from_secs(600);

/// One call, noted when it came.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The last part of the path; of a model its name.
    pub(super) place: String,
    pub(super) key: String,
    /// Arguments of a tool, body of a remote agent, request of a model.
    pub(super) body: Value,
    pub(super) started: Instant,
    pub(super) ended: Option<Instant>,
    /// When the caller hung up before it was answered.
    pub(super) dropped: Option<Instant>,
}

type Ledger = Arc<Mutex<Vec<Entry>>>;

/// On a thread of its own; ends with this value.
pub(super) struct Outside {
    ledger: Ledger,
    aside: Aside,
}

impl Outside {
    pub(super) fn start() -> Self {
        let ledger = Ledger::default();
        let router = Router::new()
            .route("/tool/{place}", post(tool))
            .route("/page", get(|| async { "a page of this machine" }))
            .route("/mcp", post(mcp))
            .route("/v1/chat/completions", post(model))
            .with_state(Arc::clone(&ledger));
        let aside = Aside::serve(router);
        Self { ledger, aside }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.aside.port)
    }

    /// Every call of that place so far, in the order they came.
    pub(super) fn entries(&self, place: &str) -> Vec<Entry> {
        let ledger = lock(&self.ledger);
        ledger.iter().filter(|entry| entry.place == place).cloned().collect()
    }
}

fn lock(ledger: &Ledger) -> MutexGuard<'_, Vec<Entry>> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes in its entry how the call went; dropped without an answer, that the caller hung up.
struct Open {
    ledger: Ledger,
    at: usize,
}

impl Open {
    fn new(ledger: &Ledger, place: String, headers: &HeaderMap, body: Value) -> Self {
        let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
        let mut entries = lock(ledger);
        entries.push(Entry {
            place,
            key: key.unwrap_or_default().to_owned(),
            body,
            started: Instant::now(),
            ended: None,
            dropped: None,
        });
        Self {
            at: entries.len() - 1,
            ledger: Arc::clone(ledger),
        }
    }

    fn answered(&self) {
        lock(&self.ledger)[self.at].ended = Some(Instant::now());
    }

    /// Calls of the same place and key before this one.
    fn earlier(&self) -> usize {
        let entries = lock(&self.ledger);
        let own = &entries[self.at];
        let is_same = |entry: &&Entry| entry.place == own.place && entry.key == own.key;
        entries[..self.at].iter().filter(is_same).count()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let entry = &mut lock(&self.ledger)[self.at];
        if entry.ended.is_none() {
            entry.dropped = Some(Instant::now());
        }
    }
}

/// What the arguments (of a remote agent: its payload) ask for: `delay_ms`, `hangs`, `fails` (a status, `times` times),
/// `answer`; else the arguments come back.
async fn tool(
    State(ledger): State<Ledger>,
    Path(place): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let open = Open::new(&ledger, place, &headers, body.clone());
    let asked = body.get("payload").unwrap_or(&body);
    tokio::time::sleep(Duration::from_millis(asked["delay_ms"].as_u64().unwrap_or(0))).await;
    if asked["hangs"] == true {
        tokio::time::sleep(FOR_EVER).await;
    }
    let fails = asked["fails"].as_u64().and_then(|status| u16::try_from(status).ok());
    let times = asked["times"].as_u64().unwrap_or(u64::MAX);
    if let Some(status) = fails.and_then(|status| StatusCode::from_u16(status).ok())
        && (open.earlier() as u64) < times
    {
        open.answered();
        return (status, "as the test asked").into_response();
    }
    open.answered();
    match asked.get("answer") {
        Some(answer) => Json(answer.clone()).into_response(),
        None => Json(json!({"heard": asked})).into_response(),
    }
}

/// Streamable HTTP, as far as a server without sessions and streams needs it.
async fn mcp(State(ledger): State<Ledger>, headers: HeaderMap, Json(message): Json<Value>) -> Response {
    let result = match message["method"].as_str() {
        _ if message["id"].is_null() => return StatusCode::ACCEPTED.into_response(),
        Some("initialize") => json!({"protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {}}, "serverInfo": {"name": "outside", "version": "1"}}),
        Some("tools/list") => json!({"tools": [{"name": "weather", "inputSchema": {"type": "object"}}]}),
        Some("tools/call") => {
            let arguments = &message["params"]["arguments"];
            let place = arguments["place"].as_str().unwrap_or_default().to_owned();
            Open::new(&ledger, place, &headers, arguments.clone()).answered();
            json!({"content": [{"type": "text", "text": format!("sunny in {}", arguments["city"])}]})
        }
        _ => {
            let error = json!({"code": -32601, "message": "unknown method"});
            return Json(json!({"jsonrpc": "2.0", "id": message["id"], "error": error})).into_response();
        }
    };
    Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})).into_response()
}

/// An OpenAI-compatible model that says five words and then hangs, or with `silent` in its name hangs at once.
async fn model(State(ledger): State<Ledger>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let name = body["model"].as_str().unwrap_or_default().to_owned();
    let is_silent = name.contains("silent");
    let open = Open::new(&ledger, name, &headers, body);
    if is_silent {
        tokio::time::sleep(FOR_EVER).await;
    }
    let words = (0..5).map(|number| {
        let event = json!({"choices": [{"index": 0, "delta": {"content": format!("word-{number} ")}}]});
        Ok::<_, Infallible>(Bytes::from(format!("data: {event}\n\n")))
    });
    let words: Vec<_> = words.collect();
    let stream = futures::stream::unfold((words.into_iter(), open), |(mut words, open)| async move {
        match words.next() {
            Some(word) => Some((word, (words, open))),
            None => {
                tokio::time::sleep(FOR_EVER).await;
                open.answered();
                None
            }
        }
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(stream)).into_response()
}

/// Entries by the number in their body's payload.
pub(super) fn by_number(entries: &[Entry]) -> HashMap<u64, Vec<&Entry>> {
    let mut by_number: HashMap<u64, Vec<&Entry>> = HashMap::new();
    for entry in entries {
        let number = entry.body["payload"]["number"].as_u64().expect("a number");
        by_number.entry(number).or_default().push(entry);
    }
    by_number
}
