//! Good requests, route by route: what reaches the services and what comes back.

use mesh_api::execution::State;
use reqwest::Method;
use serde_json::json;

use crate::made::the_invocation;
use crate::support::{Edge, json_of, problem};

#[tokio::test]
async fn an_agent_is_declared_guarded_and_deleted() {
    let edge = Edge::start().await;
    let created = edge.declare_sofia().await;
    assert_eq!(created.headers()["location"], "/api/v1/agents/sofia");
    assert_eq!(created.headers()["etag"], "\"g1\"");
    let body = json_of(created).await;
    assert_eq!(
        (body["kind"].as_str(), body["status"]["generation"].as_u64()),
        (Some("Agent"), Some(1))
    );

    let path = "/api/v1/agents/agent:sofia";
    // The tag is of what was declared, while the status goes on: no answer may be left out for it.
    let same = edge.get(path).header("if-none-match", "\"g1\"").send().await.unwrap();
    assert_eq!(
        (same.status().as_u16(), &same.headers()["etag"]),
        (200, &"\"g1\"".parse().unwrap())
    );
    assert_eq!(json_of(same).await["status"]["generation"], 1);
    let again = edge
        .post("/api/v1/agents", &json!({"metadata": {"name": "sofia"}}))
        .send()
        .await
        .unwrap();
    assert_eq!(problem(again).await["type"], "registry/agent-already-exists");

    let put = |etag: &str| {
        let body = json!({"metadata": {"name": "sofia"}, "spec": {"instructions": "other"}});
        edge.request(Method::PUT, path)
            .header("if-match", etag.to_owned())
            .json(&body)
            .send()
    };
    let stale = put("\"g7\"").await.unwrap();
    assert_eq!(stale.status(), 412);
    assert_eq!(problem(stale).await["type"], "mesh/precondition-failed");
    let changed = put("\"g1\"").await.unwrap();
    assert_eq!(changed.headers()["etag"], "\"g2\"");
    assert_eq!(json_of(changed).await["spec"]["instructions"], "other");

    let published = json_of(
        edge.request(Method::POST, "/api/v1/agents/sofia/publish")
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(
        (published["version"].as_u64(), published["hash"].as_str().map(str::len)),
        (Some(1), Some(64))
    );
    let deleted = json_of(edge.request(Method::DELETE, path).send().await.unwrap()).await;
    assert_eq!(deleted, json!({"agent": "sofia", "deleted": true}));
    assert_eq!(
        problem(edge.get(path).send().await.unwrap()).await["type"],
        "registry/agent-not-found"
    );
}

#[tokio::test]
async fn put_makes_a_missing_agent_only_when_asked_and_the_flat_form_is_taken() {
    let edge = Edge::start().await;
    let put = |query: &str| {
        edge.request(Method::PUT, &format!("/api/v1/agents/new{query}"))
            .json(&json!({"metadata": {"name": "new"}}))
            .send()
    };
    assert_eq!(put("").await.unwrap().status(), 404);
    assert_eq!(put("?missing=create").await.unwrap().status(), 200);
    let flat = json!({"name": "old", "docker_image": "x:1", "cpu_limit": "1", "env_vars": {"A": "b"}});
    let view = json_of(edge.post("/api/v1/agents", &flat).send().await.unwrap()).await;
    assert_eq!(
        (
            view["spec"]["runtime"].as_str(),
            view["spec"]["container"]["image"].as_str()
        ),
        (Some("container"), Some("x:1"))
    );
    let page = json_of(edge.get("/api/v1/agents?limit=1").send().await.unwrap()).await;
    assert_eq!(
        (page["items"].as_array().map(Vec::len), page["next"].as_str()),
        (Some(1), Some("new"))
    );
}

#[tokio::test]
async fn an_invocation_is_accepted_with_its_location_and_an_id_of_its_own() {
    let edge = Edge::start().await;
    let body = json!({"payload": {"text": "hi"}, "priority": 7});
    let sent = edge
        .post("/api/v1/agents/agent:sofia/invocations", &body)
        .header("mesh-tenant", "microdao:daarion");
    let accepted = sent.send().await.unwrap();
    assert_eq!(accepted.status(), 202);
    let location = accepted.headers()["location"].to_str().unwrap().to_owned();
    let invocation = json_of(accepted).await;
    assert_eq!(
        location,
        format!("/api/v1/invocations/{}", invocation["id"].as_str().unwrap())
    );
    let (caller, request) = edge.world.last_accepted();
    assert_eq!((caller.tenant.as_str(), caller.actor.as_str()), ("daarion", "dev"));
    assert!(caller.request_id.is_some());
    assert_eq!(
        (request.agent.as_str(), request.wait_ms, request.request.priority),
        ("sofia", 0, Some(7))
    );
    assert_eq!(
        request.request.invocation_id.map(|id| json!(id)),
        Some(invocation["id"].clone())
    );
}

#[tokio::test]
async fn a_key_travels_from_header_or_body_and_takes_the_place_of_an_id() {
    let edge = Edge::start().await;
    let path = "/api/v1/agents/sofia/invocations";
    for (header, body) in [
        (Some("k-1"), json!({})),
        (None, json!({"idempotency_key": "k-1"})),
        (Some("k-1"), json!({"idempotency_key": "k-1"})),
    ] {
        let mut request = edge.post(path, &body);
        if let Some(key) = header {
            request = request.header("idempotency-key", key);
        }
        assert_eq!(request.send().await.unwrap().status(), 202);
        let (_, accepted) = edge.world.last_accepted();
        assert_eq!(accepted.request.idempotency_key.as_deref(), Some("k-1"));
        assert_eq!(
            accepted.request.invocation_id, None,
            "the hash of a repeated request must not change"
        );
    }
}

#[tokio::test]
async fn a_wait_answers_200_with_the_end_or_202_without_it() {
    let edge = Edge::start().await;
    let ended = edge
        .post("/api/v1/agents/sofia/invocations?wait=30", &json!({}))
        .send()
        .await
        .unwrap();
    assert_eq!(ended.status(), 200);
    assert_eq!(json_of(ended).await["output"], json!({"text": "hello"}));
    assert_eq!(edge.world.last_accepted().1.wait_ms, 30_000);
    let open = edge
        .post("/api/v1/agents/endless/invocations?wait=1", &json!({}))
        .send()
        .await
        .unwrap();
    assert_eq!(open.status(), 202);
    // A failed one has ended, too: its error is in it.
    let failed = edge
        .post("/api/v1/agents/failing/invocations?wait=1", &json!({}))
        .send()
        .await
        .unwrap();
    assert_eq!(failed.status(), 200);
    assert_eq!(json_of(failed).await["error"]["type"], "inference/model-refused");
}

#[tokio::test]
async fn filters_of_the_list_reach_execution() {
    let edge = Edge::start().await;
    let query = "agent=agent:sofia&state=failed&since=2026-01-01T00:00:00Z&q=a%20b&session=s&limit=3";
    json_of(edge.get(&format!("/api/v1/invocations?{query}")).send().await.unwrap()).await;
    let request = edge.world.lists.lock().unwrap().pop().unwrap();
    assert_eq!(request.filter.agent.unwrap().as_str(), "sofia");
    assert_eq!(request.filter.state, Some(State::Failed));
    assert_eq!(
        (request.filter.q.as_deref(), request.filter.session.as_deref()),
        (Some("a b"), Some("s"))
    );
    assert_eq!(request.page.limit, Some(3));
    assert_eq!(
        json_of(
            edge.get("/api/v1/invocations/counts?state=failed")
                .send()
                .await
                .unwrap()
        )
        .await["all"],
        3
    );
    let one = format!("/api/v1/invocations/{}", the_invocation());
    assert_eq!(json_of(edge.get(&one).send().await.unwrap()).await["state"], "running");
    let letters = json_of(edge.get("/api/v1/dead-letters?all=true").send().await.unwrap()).await;
    assert_eq!(letters, json!({"items": [], "next": "all"}));
    assert_eq!(
        json_of(edge.get("/api/v1/models").send().await.unwrap()).await["items"][0]["name"],
        "mock"
    );
}

#[tokio::test]
async fn channels_and_memories_carry_what_was_said() {
    let edge = Edge::start().await;
    let path = "/api/v1/channels/7c72d497-27aa-4e75-bb2f-4a4a21d4f91f/messages";
    let posted = edge
        .post(path, &json!({"text": "привіт", "id": "x-1"}))
        .send()
        .await
        .unwrap();
    assert_eq!(posted.status(), 201);
    let history = json_of(edge.get(path).send().await.unwrap()).await;
    assert_eq!(history["items"][0]["text"], "привіт");
    assert_eq!(history["items"][0]["author"], json!({"kind": "user", "id": "dev"}));
    let elsewhere = json_of(edge.get(path).header("mesh-tenant", "other").send().await.unwrap()).await;
    assert_eq!(elsewhere["items"], json!([]));

    let stored = edge
        .post(
            "/api/v1/memories",
            &json!({"agent": "sofia", "type": "semantic", "content": "likes tea"}),
        )
        .send()
        .await
        .unwrap();
    assert_eq!(stored.status(), 201);
    assert!(
        stored.headers()["location"]
            .to_str()
            .unwrap()
            .starts_with("/api/v1/memories/mem_")
    );
    let found = edge
        .post(
            "/api/v1/memories/search",
            &json!({"agent": "sofia", "query": "tea", "k": 3}),
        )
        .send()
        .await
        .unwrap();
    assert_eq!(json_of(found).await["items"][0]["memory"]["type"], "semantic");
}

#[tokio::test]
async fn services_show_themselves_with_what_they_did() {
    let edge = Edge::start().await;
    edge.declare_sofia().await;
    let services = json_of(edge.get("/api/v1/services").send().await.unwrap()).await;
    let items = services["items"].as_array().unwrap();
    let registry = items
        .iter()
        .find(|service| service["name"] == "registry")
        .unwrap_or_else(|| panic!("{services}"));
    assert_eq!(
        (registry["version"].as_str(), registry["requests"].as_u64()),
        (Some("0.1.0"), Some(1))
    );
    let tenants = json_of(edge.get("/api/v1/tenants").send().await.unwrap()).await;
    assert_eq!(tenants["items"][0]["name"], "default");
}
