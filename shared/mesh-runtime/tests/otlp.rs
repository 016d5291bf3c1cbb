//! Telemetry of a whole process against a collector. One test: a process sets up telemetry once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{OriginalUri, State};
use mesh_runtime::metrics::MetricName;
use mesh_runtime::telemetry::{TelemetryOptions, init, service_span};
use mesh_trace::{Incoming, Kind, Way};

type Seen = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

async fn take(State(seen): State<Seen>, OriginalUri(uri): OriginalUri, body: Bytes) {
    seen.lock()
        .expect("no holder panics")
        .entry(uri.path().to_owned())
        .or_default()
        .extend_from_slice(&body);
}

fn count(bytes: &[u8], word: &str) -> usize {
    let windows = bytes.windows(word.len());
    windows.filter(|window| *window == word.as_bytes()).count()
}

fn says(bytes: &[u8], word: &str) -> bool {
    count(bytes, word) > 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_metrics_and_log_lines_reach_a_collector_and_say_their_service() {
    let seen = Seen::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collector = Router::new().fallback(take).with_state(Arc::clone(&seen));
    let serving = axum::serve(listener, collector).into_future();
    tokio::select! {
        ended = serving => panic!("the collector ended: {ended:?}"),
        () = work(endpoint) => {}
    }

    let seen = seen.lock().unwrap().clone();
    let (spans, metrics, lines) = (&seen["/v1/traces"], &seen["/v1/metrics"], &seen["/v1/logs"]);
    assert!(says(lines, "published") && says(lines, "registry") && !says(lines, "whispered"));
    assert!(says(spans, "publish an agent") && says(spans, "registry"));
    assert_eq!(count(spans, "mesh.service"), 1, "a key is there once");
    assert!(
        !says(spans, "mesh_runtime::service"),
        "the span that carries the name is not sent"
    );
    assert!(says(metrics, "mesh.agents.published") && says(metrics, "mesh.service"));
}

async fn work(endpoint: String) {
    // On a thread of the runtime, as a service would.
    let options = TelemetryOptions {
        otlp_endpoint: Some(endpoint),
        ..TelemetryOptions::default()
    };
    let guard = init(&options).expect("the first time");
    assert!(init(&options).is_err(), "once per process");
    guard
        .metrics()
        .for_service("registry")
        .counter(MetricName::AgentsPublished)
        .add(1, &[]);
    let publish = || {
        let id = mesh_trace::trace_id;
        let span = mesh_trace::Span::edge(
            &Incoming::default(),
            id,
            Way::Write,
            Kind::Server,
            || "publish an agent",
        );
        span.enter(|| {
            tracing::info!("published");
            tracing::debug!("whispered");
        });
    };
    service_span("registry").in_scope(publish);
    tokio::task::spawn_blocking(move || drop(guard)).await.expect("it ends");
}
