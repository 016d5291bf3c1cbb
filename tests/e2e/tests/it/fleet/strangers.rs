//! Whoever is not who they say: refused, and seen in the audit.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::ground::Ground;
use super::nodes::Order;
use crate::harness::{unique, until};

async fn refused(ground: &Ground, what: &str, is_it: impl Fn(&Value) -> bool) {
    until(30, &format!("the audit tells of {what}"), || async {
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
    let revoked = ground
        .http
        .post(&format!("/api/v1/join-tokens/{id}/revoke"), &json!({}))
        .await;
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
        mode: "private",
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

/// What the node keeps: its own secret, which whoever owns the machine can read.
fn secret_of(ground: &Ground, node: &str) -> String {
    let files = walk(&ground.folder.path().join(node));
    let state = files
        .iter()
        .find(|file| file.ends_with("node.json"))
        .expect("its state");
    let state: Value = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
    state["secret"].as_str().expect("its secret").to_owned()
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    entries
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] })
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "the bytes of `nats pub`, whatever the subject")]
async fn publish(client: &async_nats::Client, subject: &str, body: &Value) {
    let sent = client.publish(subject.to_owned(), body.to_string().into()).await;
    sent.expect("the client takes it");
}

/// The owner of a node uses its secret by hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_turns_bad_speaks_for_nobody_else_and_reads_no_other_tenants_memories() {
    let ground = Ground::up().await;
    let (bad, good) = (ground.node("bad", 4).await, ground.node("good", 4).await);
    let refusals = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&refusals);
    let client = async_nats::ConnectOptions::with_user_and_password(bad.id.clone(), secret_of(&ground, &bad.id))
        .custom_inbox_prefix(format!("_INBOX.{}", bad.id))
        .event_callback(move |event| {
            heard.lock().unwrap().push(event.to_string().to_lowercase());
            async {}
        })
        .connect(format!("127.0.0.1:{}", ground.mesh.nats_port()))
        .await
        .expect("it is the node's own secret");
    let forged = json!({"node_id": good.id, "incarnation": u64::MAX, "seq": 9, "sent_at": "2026-11-21T12:00:00Z",
        "interval_seconds": 1.0, "mode": "sleep", "slots": 1, "running": 0});
    publish(&client, &format!("mesh.heartbeat.{}", good.id), &forged).await;
    let _everything = client.subscribe("mesh.>").await.unwrap();
    let _inboxes = client.subscribe("_INBOX.>").await.unwrap();
    client.flush().await.unwrap();
    until(30, "the server refuses all three", || async {
        let refusals = refusals.lock().unwrap();
        let is_refused = |of: &str| {
            refusals
                .iter()
                .any(|event| event.contains("permissions") && event.contains(of))
        };
        (is_refused("mesh.heartbeat") && is_refused("mesh.>") && is_refused("_inbox.>")).then_some(())
    })
    .await;
    // In its own name it may say so, and is told apart by what it says.
    publish(&client, &format!("mesh.heartbeat.{}", bad.id), &forged).await;
    refused(&ground, "a heartbeat for another node", |fact| {
        fact["actor"].as_str().is_some_and(|actor| actor.contains(&bad.id))
    })
    .await;
    let ticket = json!({"tenant": "daarion", "agent": "sofia", "invocation": "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV", "shard": 1,
        "epoch": 1, "issued_at": "2026-11-21T12:00:00Z", "signature": "00".repeat(64)});
    let asked = json!({"ticket": ticket, "request": {"agent": "sofia", "query": "what do you know?"}});
    let subject = format!("mesh.node.{}.memory.memory-query", bad.id);
    let answer = client
        .request(subject, asked.to_string().into())
        .await
        .expect("an answer");
    let problem: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(problem["type"], "identity/forbidden", "{problem}");
    refused(&ground, "a forged ticket", |fact| {
        fact["action"].as_str().is_some_and(|action| action.contains("memory"))
    })
    .await;
    let entry = ground.http.get(&format!("/api/v1/nodes/{}", good.id)).await;
    assert_eq!(
        (&entry["mode"], &entry["status"]),
        (&json!("private"), &json!("online")),
        "{entry}"
    );
}
