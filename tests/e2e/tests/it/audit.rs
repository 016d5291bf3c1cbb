//! The audit of a started mesh: each write over HTTP or NATS is in it, with who, what, before and after; its chain holds.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Mesh, items, send, unique, until};

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "one story: all kinds of writes, then their facts, then the chain"
)]
async fn every_write_is_in_the_audit_with_its_request_and_the_chain_holds() {
    let mesh = Mesh::up().await;
    let (http, agent, channel) = (mesh.http(), unique("clerk"), unique("room"));
    let declared = |instructions: &str| {
        json!({"apiVersion": "mesh/v1", "kind": "Agent", "metadata": {"name": agent},
            "spec": {"runtime": "llm", "model": {"name": "mock"}, "instructions": instructions}})
    };
    http.post("/api/v1/agents", &declared("first")).await.expect(201);
    let path = format!("/api/v1/agents/{agent}");
    let request_id = "req_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let replace = http.request(Method::PUT, &path).header("X-Request-Id", request_id);
    send(replace.json(&declared("second"))).await.expect(200);
    http.post(&format!("{path}/publish"), &json!({})).await.expect(200);
    let message = http
        .post(&format!("/api/v1/channels/{channel}/messages"), &json!({"text": "hi"}))
        .await;
    message.expect(201);
    let stored = http
        .post(
            "/api/v1/memories",
            &json!({"agent": agent, "type": "semantic", "content": "The door is red."}),
        )
        .await
        .expect(201);
    http.post(&format!("{path}/pause"), &json!({"reason": "too dear"}))
        .await
        .expect(200);
    http.post(&format!("{path}/resume"), &json!({})).await.expect(200);
    http.post("/api/v1/keys", &json!({"owner": "ann"})).await.expect(201);
    send(http.request(Method::DELETE, &path)).await.expect(200);

    let wanted = [
        ("agent.created", agent.as_str()),
        ("agent.updated", &agent),
        ("agent.published", &agent),
        ("channel.posted", &channel),
        ("memory.stored", stored["id"].as_str().unwrap()),
        ("pause.set", &agent),
        ("pause.lifted", &agent),
        ("agent.deleted", &agent),
    ];
    let facts = until(30, "all of it is in the audit", || async {
        let facts = items(&http.get("/api/v1/audit?limit=200").await);
        let is_there = |(action, subject): &(&str, &str)| {
            facts
                .iter()
                .any(|fact| fact["action"] == *action && fact["subject"] == *subject)
        };
        (wanted.iter().all(is_there) && facts.iter().any(|fact| fact["action"] == "key.create")).then_some(facts)
    })
    .await;
    let of = |action: &str| -> &Value {
        let found = facts
            .iter()
            .find(|fact| fact["action"] == action && fact["subject"] == agent.as_str());
        found.unwrap()
    };
    let updated = of("agent.updated");
    assert_eq!(updated["request_id"], request_id, "{updated}");
    assert_eq!(updated["before"]["spec"]["instructions"], "first", "{updated}");
    assert_eq!(updated["after"]["spec"]["instructions"], "second", "{updated}");
    assert_eq!(of("agent.deleted")["before"]["spec"]["instructions"], "second");
    // What people wrote is told of, not repeated.
    assert!(!facts.iter().any(|fact| fact.to_string().contains("The door is red")));

    let verified = until(30, "every fact has its place", || async {
        let verified = mesh.cli(&["audit", "verify", "--json"]).await.json();
        (verified["unchained"] == 0).then_some(verified)
    })
    .await;
    assert_eq!(verified["intact"], true, "{verified}");
    let head = verified["head"].as_str().unwrap();
    assert!(
        mesh.cli(&["audit", "verify", "--noted", head])
            .await
            .stdout
            .contains("intact")
    );
    let pool = mesh.database().await;
    let forged = "UPDATE identity.audit SET actor = 'user:nobody' WHERE action = 'agent.deleted'";
    sqlx::query(forged).execute(&pool).await.unwrap();
    let told = mesh.cli(&["audit", "verify"]).await;
    assert!(told.code != Some(0) && told.stdout.contains("broken"), "{told:?}");
}
