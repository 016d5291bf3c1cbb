//! A collector that counts: it takes OTLP over HTTP, keeps every span and log line, and serves a tool that notes the trace it is
//! called in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use axum::{Json, Router};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};

use crate::harness::Aside;

/// Kinds as OTLP numbers them.
pub(super) const SERVER: i32 = 2;
pub(super) const CLIENT: i32 = 3;
pub(super) const PRODUCER: i32 = 4;
pub(super) const CONSUMER: i32 = 5;

/// A span as it came, ids in hexadecimal digits.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) trace: String,
    pub(super) id: String,
    /// Empty: the first of its trace.
    pub(super) parent: String,
    pub(super) name: String,
    pub(super) kind: i32,
    pub(super) attributes: BTreeMap<String, String>,
    /// Trace and span.
    pub(super) links: Vec<(String, String)>,
    pub(super) is_error: bool,
    pub(super) took: Duration,
}

/// A log line as it came.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// `service.name` of the process.
    pub(super) process: String,
    pub(super) trace: String,
    pub(super) span: String,
    pub(super) severity: String,
    pub(super) text: String,
    pub(super) attributes: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct Kept {
    spans: Vec<Seen>,
    lines: Vec<Line>,
    /// Every byte that was sent.
    raw: Vec<u8>,
    /// `traceparent` and `tracestate` of each call of the tool.
    tool_calls: Vec<(String, String)>,
}

type Shared = Arc<Mutex<Kept>>;

/// On a thread of its own; ends with this value.
pub(super) struct Sink {
    kept: Shared,
    aside: Aside,
}

impl Sink {
    pub(super) fn start() -> Self {
        let kept = Shared::default();
        let router = Router::new()
            .route("/v1/traces", post(take))
            .route("/v1/logs", post(take_lines))
            .route("/v1/metrics", post(async || ()))
            .route("/tool", post(tool))
            .with_state(Arc::clone(&kept));
        let aside = Aside::serve(router);
        Self { kept, aside }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.aside.port)
    }

    pub(super) fn spans(&self) -> Vec<Seen> {
        lock(&self.kept).spans.clone()
    }

    pub(super) fn of_trace(&self, trace: &str) -> Vec<Seen> {
        self.spans().into_iter().filter(|span| span.trace == trace).collect()
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        lock(&self.kept).lines.clone()
    }

    pub(super) fn tool_calls(&self) -> Vec<(String, String)> {
        lock(&self.kept).tool_calls.clone()
    }

    /// Whether those bytes were sent, in whatever field.
    pub(super) fn was_told(&self, text: &str) -> bool {
        let kept = lock(&self.kept);
        kept.raw.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

fn lock(kept: &Shared) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn take(State(kept): State<Shared>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body.clone()).expect("protobuf of OTLP");
    let scopes = request.resource_spans.into_iter().flat_map(|of| of.scope_spans);
    let spans = scopes.flat_map(|of| of.spans).map(seen);
    let mut kept = lock(&kept);
    kept.spans.extend(spans);
    kept.raw.extend_from_slice(&body);
}

async fn take_lines(State(kept): State<Shared>, body: Bytes) {
    let request = ExportLogsServiceRequest::decode(body.clone()).expect("protobuf of OTLP");
    let lines = request.resource_logs.into_iter().flat_map(|of| {
        let resource = texts(of.resource.unwrap_or_default().attributes);
        let process = resource.get("service.name").cloned().unwrap_or_default();
        let records = of.scope_logs.into_iter().flat_map(|of| of.log_records);
        records.map(move |record| line(process.clone(), record))
    });
    let mut kept = lock(&kept);
    kept.lines.extend(lines);
    kept.raw.extend_from_slice(&body);
}

fn line(process: String, record: LogRecord) -> Line {
    Line {
        process,
        trace: hex(&record.trace_id),
        span: hex(&record.span_id),
        severity: record.severity_text,
        text: text(record.body),
        attributes: texts(record.attributes),
    }
}

async fn tool(State(kept): State<Shared>, headers: HeaderMap) -> Json<Value> {
    let said = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    lock(&kept).tool_calls.push((said("traceparent"), said("tracestate")));
    Json(json!({"found": "a page"}))
}

fn seen(span: Span) -> Seen {
    Seen {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: span.name,
        kind: span.kind,
        attributes: texts(span.attributes),
        links: span
            .links
            .iter()
            .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
            .collect(),
        took: Duration::from_nanos(span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano)),
        is_error: span.status.is_some_and(|status| status.code == 2),
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|one| (one.key, text(one.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

/// OTLP says "no parent" as nothing or as zeros.
fn hex(bytes: &[u8]) -> String {
    if bytes.iter().all(|byte| *byte == 0) {
        return String::new();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
