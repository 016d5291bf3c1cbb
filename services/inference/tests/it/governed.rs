//! A provider of OpenAI's wire whose answers hang on what it was asked before: it rests, mends, holds its calls, counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use inference::Config;
use mesh_api::inference::CompleteRequest;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::fake::{Log, serve, streamed};

#[derive(Clone)]
pub(crate) struct Governed {
    pub(crate) log: Log,
    url: String,
    state: Arc<Held>,
}

struct Held {
    is_well: AtomicBool,
    running: AtomicUsize,
    running_most: AtomicUsize,
    /// How many calls of `gpt-slow` may end.
    ends: Semaphore,
}

impl Governed {
    pub(crate) async fn start() -> Self {
        let mut governed = Self {
            log: Log::default(),
            url: String::new(),
            state: Arc::new(Held {
                is_well: AtomicBool::new(false),
                running: AtomicUsize::new(0),
                running_most: AtomicUsize::new(0),
                ends: Semaphore::new(0),
            }),
        };
        let app = Router::new()
            .route("/v1/chat/completions", axum::routing::post(answer))
            .with_state(governed.clone());
        governed.url = format!("{}/v1", serve(app).await);
        governed
    }

    /// It is the provider `openai`.
    pub(crate) fn configure(&self, config: &mut Config) {
        config.openai_base_url = Some(self.url.clone());
        config.limits.first_byte_timeout_ms = 30_000;
    }

    pub(crate) fn mend(&self) {
        self.state.is_well.store(true, Ordering::Relaxed);
    }

    pub(crate) fn running(&self) -> usize {
        self.state.running.load(Ordering::Relaxed)
    }

    pub(crate) fn running_most(&self) -> usize {
        self.state.running_most.load(Ordering::Relaxed)
    }

    pub(crate) fn end_one(&self) {
        self.state.ends.add_permits(1);
    }

    async fn hold(&self) {
        let running = self.state.running.fetch_add(1, Ordering::Relaxed) + 1;
        self.state.running_most.fetch_max(running, Ordering::Relaxed);
        self.state.ends.acquire().await.unwrap().forget();
        self.state.running.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) fn request(models: &[&str]) -> CompleteRequest {
    serde_json::from_value(json!({
        "model": models[0], "fallbacks": models[1..], "messages": [{"role": "user", "content": "hello"}]
    }))
    .unwrap()
}

async fn answer(State(fake): State<Governed>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let times = fake.log.add("/v1/chat/completions", &headers, &body);
    let refused = |status: u16, headers: &[(&'static str, &str)]| {
        let mut response = (
            StatusCode::from_u16(status).unwrap(),
            Json(json!({"error": {"message": "not now"}})),
        )
            .into_response();
        for (name, value) in headers {
            response.headers_mut().insert(*name, value.parse().unwrap());
        }
        response
    };
    match body["model"].as_str().unwrap_or_default() {
        "gpt-rest" => refused(429, &[("retry-after", "60")]),
        "gpt-date" if times == 1 => refused(
            429,
            &[
                ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
                ("retry-after", "Sun, 06 Nov 1994 08:49:38 GMT"),
            ],
        ),
        "gpt-mending" if !fake.state.is_well.load(Ordering::Relaxed) => refused(503, &[]),
        "gpt-slow" => {
            fake.hold().await;
            good("done")
        }
        "gpt-prose" if times % 2 == 1 => good("I would say three."),
        "gpt-prose" => good(r#"{"n": 3}"#),
        // It counts as it goes, and breaks off.
        "gpt-counting" if times == 1 => streamed(EVENTS, &format!("{}{}", said("half"), counted(50, 20, 5))),
        _ => good("Good day."),
    }
}

const EVENTS: &str = "text/event-stream";

fn good(text: &str) -> Response {
    let finish = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let end = format!("data: {finish}\n\n{}data: [DONE]\n\n", counted(1_000, 400, 500));
    streamed(EVENTS, &format!("{}{end}", said(text)))
}

fn said(text: &str) -> String {
    let chunk = json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
    format!("data: {chunk}\n\n")
}

fn counted(input: u64, cached: u64, output: u64) -> String {
    let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
        "prompt_tokens_details": {"cached_tokens": cached}});
    format!("data: {}\n\n", json!({"choices": [], "usage": usage}))
}
