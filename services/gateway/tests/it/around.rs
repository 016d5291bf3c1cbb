//! What happens around every request: faults, ids, pages, origins, timeouts.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::support::{Edge, problem};

#[tokio::test]
async fn a_fault_inside_is_named_without_its_words() {
    let edge = Edge::start().await;
    let broken = problem(edge.get("/api/v1/agents/broken").send().await.unwrap()).await;
    assert_eq!(
        (broken["type"].as_str(), broken["status"].as_u64()),
        (Some("mesh/internal"), Some(500))
    );
    assert!(!broken.to_string().contains("secret_table"), "{broken}");
    // Nobody serves this endpoint.
    let absent = edge
        .get("/api/v1/dead-letters/ded_01ARZ3NDEKTSV4RRFFQ69G5FAV")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (absent.status().as_u16(), &absent.headers()["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    let absent = problem(absent).await;
    assert!(absent["detail"].as_str().unwrap().contains("`execution`"), "{absent}");
}

#[tokio::test]
async fn request_ids_are_echoed_or_minted() {
    let edge = Edge::start().await;
    let echoed = edge
        .get("/api/v1/models")
        .header("x-request-id", "my-trace/7")
        .send()
        .await
        .unwrap();
    assert_eq!(echoed.headers()["x-request-id"], "my-trace/7");
    for bad in [None, Some("<script>")] {
        let mut request = edge.get("/api/v1/models");
        if let Some(bad) = bad {
            request = request.header("x-request-id", bad);
        }
        let minted = request.send().await.unwrap();
        assert!(minted.headers()["x-request-id"].to_str().unwrap().starts_with("req_"));
    }
}

#[tokio::test]
async fn pages_docs_and_operations_are_served() {
    let edge = Edge::start().await;
    for (path, kind, holds) in [
        ("/", "text/html", "Agent Mesh"),
        ("/docs/", "text/html", "swagger"),
        ("/api/v1/openapi.json", "application/json", "\"openapi\":\"3.1"),
        ("/health", "application/json", "\"nats_connected\":true"),
        ("/livez", "text/plain", "ok"),
        ("/metrics", "text/plain", "mesh_http_requests"),
    ] {
        let response = edge.get(path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert!(
            response.headers()["content-type"].to_str().unwrap().starts_with(kind),
            "{path}"
        );
        let text = response.text().await.unwrap();
        assert!(text.contains(holds), "{path}: {}", &text[..text.len().min(300)]);
    }
    let zipped = edge
        .get("/api/v1/openapi.json")
        .header("accept-encoding", "gzip")
        .send()
        .await
        .unwrap();
    assert_eq!(zipped.headers()["content-encoding"], "gzip");
}

#[tokio::test]
async fn only_named_origins_may_call_from_a_browser() {
    let ours = "http://localhost:5173";
    let config = gateway::Config {
        cors_origins: vec![ours.into()],
        ..gateway::Config::default()
    };
    let edge = Edge::start_with(config).await;
    let preflight = |origin: &'static str| {
        let request = edge.request(Method::OPTIONS, "/api/v1/agents").header("origin", origin);
        request
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "mesh-tenant")
            .send()
    };
    let allowed = |response: reqwest::Response| {
        response
            .headers()
            .get("access-control-allow-origin")
            .map(|origin| origin.to_str().unwrap().to_owned())
    };
    assert_eq!(allowed(preflight(ours).await.unwrap()).as_deref(), Some(ours));
    assert_eq!(allowed(preflight("https://evil.example").await.unwrap()), None);
    let posted = edge
        .post("/api/v1/agents", &json!({"metadata": {"name": "x"}}))
        .header("origin", ours)
        .send()
        .await
        .unwrap();
    assert_eq!(posted.status(), 201);
    assert_eq!(allowed(posted).as_deref(), Some(ours));
    // An error must be readable by the page, too.
    assert_eq!(
        allowed(edge.get("/api/v1/nope").header("origin", ours).send().await.unwrap()).as_deref(),
        Some(ours)
    );
}

#[tokio::test]
async fn a_wait_outlasts_the_request_timeout() {
    let config = gateway::Config {
        request_timeout_ms: 200,
        ..gateway::Config::default()
    };
    let edge = Edge::start_with(config).await;
    let waiting = edge.post("/api/v1/agents/slow/invocations?wait=30", &json!({})).send();
    let later = async {
        edge.slow_request_arrives().await;
        let arrived = Instant::now();
        mesh_testkit::wait_until(Duration::from_secs(30), || async {
            arrived.elapsed() > Duration::from_millis(400)
        })
        .await;
        edge.world.slow_may_end.notify_one();
    };
    let (response, ()) = tokio::join!(waiting, later);
    assert_eq!(response.unwrap().status(), 200);
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_a_timeout_and_the_next_request_works() {
    let config = gateway::Config {
        request_timeout_ms: 200,
        ..gateway::Config::default()
    };
    let edge = Edge::start_with(config).await;
    // Nobody serves this endpoint, which is believed only after a while.
    let late = edge.get("/api/v1/agents/sofia/versions").send().await.unwrap();
    assert_eq!(late.status(), 504);
    assert_eq!(problem(late).await["type"], "mesh/timeout");
    // On a busy machine it may be late, too.
    let works = || async { edge.get("/api/v1/models").send().await.unwrap().status() == 200 };
    mesh_testkit::wait_until(Duration::from_secs(30), works).await;
}
