//! How much one may ask: quotas in the headers, 429 past them, 503 when all places are taken, and nothing begun is lost.

use std::sync::Arc;

use gateway::{Config, RateConfig};
use mesh_api::Role;
use mesh_api::identity::{CredentialVerify, Principal, PrincipalKind};
use mesh_types::{Code, Problem, Tenant};
use reqwest::Response;
use serde_json::json;

use crate::support::{Edge, json_of, problem};

/// An edge that takes 3 requests of a key and 2 of an address within a minute; it knows the keys `a` and `b`.
async fn narrow() -> (Edge, mesh_bus::ServiceHandle) {
    let rates = RateConfig {
        credential_requests: 3,
        tenant_requests: 5,
        address_requests: 2,
        window_seconds: 60,
    };
    let edge = Edge::start_with(Config {
        require_credentials: true,
        rates,
        ..Config::default()
    })
    .await;
    let verify = |_, request: mesh_api::identity::VerifyRequest| async move {
        if !["a", "b"].contains(&request.credential.as_str()) {
            return Err(Problem::new(Code::Unauthorized, "no credential of this mesh"));
        }
        Ok(Principal {
            id: request.credential.clone(),
            kind: PrincipalKind::Key,
            owner: request.credential,
            tenant: Tenant::default(),
            role: Some(Role::Viewer),
            scopes: Vec::new(),
        })
    };
    let identity = edge
        .bus
        .service("identity", "0.1.0")
        .endpoint::<CredentialVerify, _, _>(verify);
    let identity = identity.start().await.unwrap();
    (edge, identity)
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn list(edge: &Edge, key: &str) -> Response {
    edge.get("/api/v1/agents")
        .header("X-Service-API-Key", key)
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_key_sees_what_is_left_and_waits_when_nothing_is() {
    let (edge, _identity) = narrow().await;
    for left in ["2", "1", "0"] {
        let response = list(&edge, "a").await;
        assert_eq!(response.status(), 200);
        assert_eq!(
            header(&response, "ratelimit-policy"),
            r#""credential";q=3;w=60, "tenant";q=5;w=60"#
        );
        let limit = header(&response, "ratelimit");
        assert!(limit.starts_with(&format!(r#""credential";r={left};t="#)), "{limit}");
    }
    let refused = list(&edge, "a").await;
    let retry_after: u32 = header(&refused, "retry-after").parse().unwrap();
    assert!((1..=20).contains(&retry_after), "{retry_after}");
    assert!(header(&refused, "ratelimit").starts_with(r#""credential";r=0"#));
    assert_eq!(problem(refused).await["type"], "mesh/rate-limited");
    // The other key of the tenant has its own, and shares the tenant's.
    assert_eq!(list(&edge, "b").await.status(), 200);
    assert_eq!(list(&edge, "b").await.status(), 200);
    let refused = problem(list(&edge, "b").await).await;
    assert!(refused["detail"].as_str().unwrap().contains("tenant"), "{refused}");
    assert_eq!(
        edge.get("/health").send().await.unwrap().status(),
        200,
        "probes are answered"
    );
}

#[tokio::test]
async fn guessing_ends_soon_and_who_is_known_goes_on() {
    let (edge, _identity) = narrow().await;
    assert_eq!(list(&edge, "a").await.status(), 200);
    for _ in 0..2 {
        assert_eq!(list(&edge, "guessed").await.status(), 401);
    }
    let refused = list(&edge, "guessed again").await;
    assert_eq!(header(&refused, "ratelimit-policy"), r#""address";q=2;w=60"#);
    assert_eq!(problem(refused).await["status"], 429);
    assert_eq!(list(&edge, "a").await.status(), 200);
}

#[tokio::test]
async fn with_all_places_taken_one_more_is_told_to_come_again_and_what_was_begun_ends() {
    let edge = Edge::start_with(Config {
        in_flight_max: 1,
        ..Config::default()
    })
    .await;
    let edge = Arc::new(edge);
    let waiting = Arc::clone(&edge);
    let mut slow = tokio::task::JoinSet::new();
    slow.spawn(async move {
        let body = json!({"payload": {}});
        let sent = waiting.post("/api/v1/agents/slow/invocations?wait=15", &body).send();
        json_of(sent.await.unwrap()).await
    });
    edge.slow_request_arrives().await;
    let body = json!({"payload": {}});
    let refused = edge
        .post("/api/v1/agents/sofia/invocations", &body)
        .send()
        .await
        .unwrap();
    assert_eq!(header(&refused, "retry-after"), "1");
    assert_eq!(problem(refused).await["type"], "mesh/busy");
    // What answers at once has places of its own, and probes need none.
    for path in ["/api/v1/agents", "/health", "/livez"] {
        assert_eq!(edge.get(path).send().await.unwrap().status(), 200, "{path}");
    }
    edge.world.slow_may_end.notify_one();
    let ended = slow.join_next().await.unwrap().unwrap();
    assert!(ended["id"].is_string());
    let again = edge
        .post("/api/v1/agents/sofia/invocations", &body)
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), 202);
}
