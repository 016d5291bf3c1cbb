//! Whoever is not who they say: refused, and seen in the audit.

use serde_json::{Value, json};

use super::ground::Ground;
use super::nodes::Order;
use crate::harness::{send, unique, until};

async fn refused(ground: &Ground, what: &str, is_it: impl Fn(&Value) -> bool) {
    until(20, &format!("the audit tells of {what}"), || async {
        ground.refusals().await.iter().any(&is_it).then_some(())
    })
    .await;
}

fn register(node: &str) -> Value {
    json!({"node_id": node, "mode": "private"})
}

const AGENT_NODES: &str = "/api/runtimes/v1/agent-nodes";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_and_seen_in_the_audit() {
    let ground = Ground::up().await;
    let open = ground.mesh.http();
    let register_path = format!("{AGENT_NODES}/register");
    // Nobody at all, and a token that nobody made.
    assert_eq!(open.post(&register_path, &register("ghost")).await.status, 401);
    let forged = format!("mjt_01ARZ3NDEKTSV4RRFFQ69G5FAV_{}", "A".repeat(43));
    assert_eq!(
        open.key(&forged).post(&register_path, &register("ghost")).await.status,
        401
    );
    refused(&ground, "a forged token", |fact| fact["action"] == "credential.verify").await;
    // A revoked one.
    let made = ground.http.post("/api/v1/join-tokens", &json!({})).await.body;
    let (token, id) = (
        made["secret"].as_str().unwrap(),
        made["join_token"]["id"].as_str().unwrap(),
    );
    let revoke = ground
        .http
        .request(reqwest::Method::DELETE, &format!("/api/v1/join-tokens/{id}"));
    let revoked = send(revoke).await;
    assert!(revoked.status < 300, "{}", revoked.text);
    assert_eq!(
        open.key(token).post(&register_path, &register("ghost")).await.status,
        401
    );
    // Another owner's key, for a node that is admin's.
    let mine = ground.node("mine", 4).await;
    let made = ground.http.post("/api/v1/keys", &json!({"owner": "mallory"})).await;
    assert!([200, 201].contains(&made.status), "{}", made.text);
    let mallory = ground.mesh.http().key(made.body["secret"].as_str().unwrap());
    assert_eq!(mallory.post(&register_path, &register(&mine.id)).await.status, 403);
    refused(&ground, "a node id of another owner", |fact| {
        fact["subject"] == mine.id.as_str()
    })
    .await;
    // A forged heartbeat, over HTTP.
    let beat = json!({"node_id": mine.id, "mode": "sleep"});
    let answer = mallory.post(&format!("{AGENT_NODES}/heartbeat"), &beat).await;
    assert_eq!(answer.status, 403, "{}", answer.text);
    refused(&ground, "a forged heartbeat", |fact| {
        fact["action"]
            .as_str()
            .is_some_and(|action| action.contains("heartbeat"))
    })
    .await;
    let seen = mallory.try_get(&format!("{AGENT_NODES}/{}", mine.id)).await.unwrap();
    assert_eq!(seen.status, 404, "others' private nodes are not there: {}", seen.text);
    assert_eq!(ground.status(&mine.id).await.as_deref(), Some("online"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_stolen_token_does_not_join_over_nats() {
    let ground = Ground::up().await;
    let forged = Order {
        id: unique("thief"),
        url: format!("nats://127.0.0.1:{}", ground.mesh.nats_port()),
        token: format!("mjt_01ARZ3NDEKTSV4RRFFQ69G5FAV_{}", "A".repeat(43)),
        slots: 4,
        of: String::new(),
    };
    let _node = ground.start(&forged);
    refused(&ground, "a forged token at NATS", |fact| {
        fact["subject"]
            .as_str()
            .is_some_and(|subject| subject.contains("jtk_01ARZ3NDEKTSV4RRFFQ69G5FAV"))
            || fact["actor"]
                .as_str()
                .is_some_and(|actor| actor.contains("jtk_01ARZ3NDEKTSV4RRFFQ69G5FAV"))
    })
    .await;
    assert_eq!(ground.status(&forged.id).await, None);
}
