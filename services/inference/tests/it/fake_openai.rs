//! A server that speaks the wire of OpenAI's chat completions, well or badly: the model's name says how.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use mesh_runtime::Tasks;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// The key that the server takes; it quotes it in its refusals, as real ones do.
pub(crate) const KEY: &str = "sk-test-0123456789";

#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

#[derive(Clone)]
pub(crate) struct FakeOpenAi {
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Tokens that `gpt-ticking` may write.
    ticks: Arc<Semaphore>,
    /// Answers in work, of `gpt-held` and `gpt-mute`.
    held: Arc<AtomicUsize>,
}

impl Default for FakeOpenAi {
    fn default() -> Self {
        Self {
            asked: Arc::default(),
            ticks: Arc::new(Semaphore::new(1)),
            held: Arc::default(),
        }
    }
}

/// One answer that the caller waits for; dropped with the connection.
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FakeOpenAi {
    /// Serves on a free port of this machine; answers the base URL.
    pub(crate) async fn start(&self, tasks: &Tasks) -> String {
        let app = axum::Router::new()
            .route("/v1/chat/completions", axum::routing::post(completions))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tasks.spawn("fake-openai", async move { axum::serve(listener, app).await.unwrap() });
        format!("http://{address}/v1")
    }

    /// One more token of `gpt-ticking`, whose first one waits for nobody.
    pub(crate) fn tick(&self) {
        self.ticks.add_permits(1);
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn hold(&self) -> Held {
        self.held.fetch_add(1, Ordering::Relaxed);
        Held(Arc::clone(&self.held))
    }

    pub(crate) fn asked(&self, model: &str) -> Vec<Asked> {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .filter(|asked| asked.body["model"] == model)
            .cloned()
            .collect()
    }
}

async fn completions(State(fake): State<FakeOpenAi>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let model = body["model"].as_str().unwrap_or_default().to_owned();
    fake.asked.lock().unwrap().push(Asked {
        headers: headers.clone(),
        body,
    });
    let times = fake.asked(&model).len();
    let bearer = format!("Bearer {KEY}");
    if headers
        .get("authorization")
        .is_none_or(|value| value != bearer.as_str())
    {
        let message = format!("Incorrect API key provided: {:?}", headers.get("authorization"));
        return (StatusCode::UNAUTHORIZED, Json(json!({"error": {"message": message}}))).into_response();
    }
    let error = |status: u16, message: &str| {
        let status = StatusCode::from_u16(status).unwrap();
        (status, Json(json!({"error": {"message": message, "type": "x"}}))).into_response()
    };
    match model.as_str() {
        "gpt-limited" if times == 1 => {
            let mut response = error(429, "Rate limit reached");
            response.headers_mut().insert("retry-after", "0".parse().unwrap());
            response
        }
        "gpt-down" => error(503, "overloaded"),
        "gpt-leaky" => error(400, &format!("bad request with {KEY}")),
        "gpt-cut" => events(vec![text("This never")], End::Broken),
        "gpt-short" => events(vec![text("This never")], End::Closed),
        "gpt-silent" => std::future::pending::<Response>().await,
        "gpt-stalled" => events(vec![text("Wait for")], End::Stalled),
        "gpt-endless" => endless(),
        "gpt-html" => ([("content-type", "text/html")], "<html>Welcome to the proxy</html>").into_response(),
        "gpt-garbage" => events(vec!["{\"choices\":[{\"delta\":".to_owned()], End::Closed),
        "gpt-moved" => (StatusCode::FOUND, [("location", "/v1/chat/completions")]).into_response(),
        "gpt-uncounted" => events(vec![text("Twelve bytes"), finish("stop"), done()], End::Closed),
        "gpt-json" => Json(document()).into_response(),
        "gpt-ticking" => ticking(&fake),
        "gpt-held" => held(fake.hold()),
        "gpt-mute" => {
            let _held = fake.hold();
            std::future::pending::<Response>().await
        }
        "gpt-late" => {
            // Long enough for a repeat to come meanwhile.
            tokio::time::sleep(Duration::from_millis(200)).await;
            events(good_events(), End::Closed)
        }
        "gpt-tools" => events(tool_events(), End::Closed),
        _ => events(good_events(), End::Closed),
    }
}

fn text(text: &str) -> String {
    chunk(&json!({"content": text}), &Value::Null)
}

fn finish(reason: &str) -> String {
    chunk(&json!({}), &json!(reason))
}

fn done() -> String {
    "[DONE]".to_owned()
}

fn chunk(delta: &Value, finish_reason: &Value) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": null});
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice],
           "usage": null})
    .to_string()
}

fn usage(input: u64, output: u64) -> String {
    let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": usage}).to_string()
}

fn good_events() -> Vec<String> {
    vec![
        chunk(&json!({"role": "assistant", "content": ""}), &Value::Null),
        text("Good "),
        text("день, "),
        text("friend."),
        finish("stop"),
        usage(1_000, 500),
        done(),
    ]
}

fn tool_events() -> Vec<String> {
    let call = |value: Value| chunk(&json!({"tool_calls": [value]}), &Value::Null);
    vec![
        call(json!({"index": 0, "id": "call_a", "type": "function", "function": {"name": "lookup", "arguments": ""}})),
        call(json!({"index": 0, "function": {"arguments": "{\"city\":"}})),
        call(json!({"index": 0, "function": {"arguments": "\"Lviv\"}"}})),
        finish("tool_calls"),
        usage(10, 5),
        done(),
    ]
}

enum End {
    Closed,
    /// The connection breaks inside the body.
    Broken,
    /// Nothing more comes, and no end.
    Stalled,
}

fn events(events: Vec<String>, end: End) -> Response {
    // Cut into small pieces, across lines and letters: a reader must not rely on how bytes arrive.
    let bytes: Vec<u8> = events
        .iter()
        .flat_map(|data| format!(": ping\n\ndata: {data}\n\n").into_bytes())
        .collect();
    let pieces: Vec<Result<Bytes, std::io::Error>> =
        bytes.chunks(7).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let sent = futures::stream::iter(pieces);
    let body = match end {
        End::Closed => Body::from_stream(sent),
        End::Broken => {
            let broken = futures::stream::once(async {
                // What was sent must be on its way before the connection breaks.
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(std::io::Error::other("cut"))
            });
            Body::from_stream(sent.chain(broken))
        }
        End::Stalled => Body::from_stream(sent.chain(futures::stream::pending())),
    };
    ([("content-type", "text/event-stream")], body).into_response()
}

fn endless() -> Response {
    let line = format!("data: {}\n\n", text(&"more ".repeat(200)));
    let lines = futures::stream::repeat_with(move || Ok::<_, Infallible>(Bytes::from(line.clone())));
    ([("content-type", "text/event-stream")], Body::from_stream(lines)).into_response()
}

/// Fifty tokens, each written when the one before it was heard.
fn ticking(fake: &FakeOpenAi) -> Response {
    let ticks = Arc::clone(&fake.ticks);
    let tokens = futures::stream::unfold(0, move |number| {
        let ticks = Arc::clone(&ticks);
        async move {
            ticks.acquire().await.unwrap().forget();
            let event = match number {
                0..50 => text(&format!("{number} ")),
                50 => finish("stop"),
                51 => done(),
                _ => {
                    ticks.add_permits(1);
                    return None;
                }
            };
            if number >= 50 {
                ticks.add_permits(1);
            }
            let line = format!("data: {event}\n\n");
            Some((Ok::<_, Infallible>(Bytes::from(line)), number + 1))
        }
    });
    ([("content-type", "text/event-stream")], Body::from_stream(tokens)).into_response()
}

/// One token, and then nothing.
fn held(held: Held) -> Response {
    let line = format!("data: {}\n\n", text("Wait"));
    let pending = futures::stream::once(async move {
        let _held = held;
        std::future::pending().await
    });
    let lines = futures::stream::iter([Ok::<_, Infallible>(Bytes::from(line))]).chain(pending);
    ([("content-type", "text/event-stream")], Body::from_stream(lines)).into_response()
}

/// As a server answers that does not stream.
fn document() -> Value {
    let call = json!({"id": "call_a", "type": "function", "function": {"name": "lookup", "arguments": "{}"}});
    let message = json!({"role": "assistant", "content": "Let me see", "tool_calls": [call]});
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15});
    json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "usage": usage,
           "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": "tool_calls"}]})
}
