//! Whoever is signed in speaks for his own nodes only; what is refused is a fact of the audit.

use mesh_types::fleet::NodeMode;
use serde_json::{Value, json};

use super::fleet::{Stage, shared_with};
use crate::support::{json_of, problem};

const BASE: &str = "/api/runtimes/v1/agent-nodes";

impl Stage {
    async fn get_as(&self, credential: &str, path: &str) -> reqwest::Response {
        let request = self.edge.get(path).header("x-service-api-key", credential);
        request.send().await.unwrap()
    }

    async fn post_as(&self, credential: &str, path: &str, body: &Value) -> reqwest::Response {
        let request = self.edge.post(path, body).bearer_auth(credential);
        request.send().await.unwrap()
    }
}

fn ids(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|node| node["node_id"].as_str().unwrap()).collect()
}

async fn with_nodes() -> Stage {
    let stage = Stage::signed_in().await;
    stage.node("a-private", "ann", NodeMode::Private);
    stage.node("b-shared", "ann", NodeMode::Shared);
    stage.node("c-sleep", "ann", NodeMode::Sleep);
    let mut nodes = stage.fleet.nodes.lock().unwrap();
    for entry in nodes.values_mut() {
        entry.configuration.sharing = shared_with("bob");
    }
    drop(nodes);
    stage
}

#[tokio::test]
async fn others_find_a_node_only_while_it_is_shared_with_them() {
    let stage = with_nodes().await;
    let all = ["a-private", "b-shared", "c-sleep"];
    for (credential, seen) in [("key-ann", &all[..]), ("key-bob", &all[1..2]), ("key-eve", &[])] {
        for list in [BASE, "/api/v1/nodes"] {
            let page = json_of(stage.get_as(credential, list).await).await;
            assert_eq!(ids(&page), seen, "{credential} {list}");
            for id in all {
                let found = stage.get_as(credential, &format!("{list}/{id}")).await;
                if seen.contains(&id) {
                    assert_eq!(json_of(found).await["node_id"], id);
                } else {
                    assert_eq!(
                        problem(found).await["type"],
                        "registry/node-not-found",
                        "{credential} {id}"
                    );
                }
            }
        }
    }
    assert_eq!(stage.edge.get(BASE).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn nobody_speaks_for_anothers_node_or_learns_whether_there_is_one() {
    let stage = with_nodes().await;
    for (number, what) in ["heartbeat", "health", "configuration"].into_iter().enumerate() {
        for id in ["a-private", "b-shared", "unknown"] {
            let body = json!({"node_id": id, "mode": "sleep", "health": {"hostname": "forged"}});
            let refused = problem(stage.post_as("key-bob", &format!("{BASE}/{what}"), &body).await).await;
            assert_eq!(refused["status"], 403, "{what} {id}");
            assert_eq!(refused["detail"], format!("`{id}` is no node of yours"));
            let action = ["node.heartbeat", "node.health", "node.configure"][number];
            let note = ("user:bob".to_owned(), action.to_owned(), id.to_owned());
            assert_eq!(stage.notes().last(), Some(&note));
        }
    }
    let drain = stage
        .post_as("key-bob", "/api/v1/nodes/b-shared/drain", &json!({}))
        .await;
    assert_eq!(problem(drain).await["status"], 403);
    let note = ("user:bob".to_owned(), "node.drain".to_owned(), "b-shared".to_owned());
    assert_eq!(stage.notes().last(), Some(&note));
    assert!(stage.fleet.seen.lock().unwrap().is_empty(), "nothing forged was taken");
    assert_eq!(stage.known("b-shared").configuration.mode, NodeMode::Shared);
    assert!(!stage.known("b-shared").drained);
}

#[tokio::test]
async fn a_nodes_own_secret_speaks_for_itself_and_nobody_else() {
    let stage = with_nodes().await;
    let answer = stage
        .post_as("node-a-private", &format!("{BASE}/heartbeat"), &json!({}))
        .await;
    let answer = json_of(answer).await;
    assert_eq!(
        (&answer["agent_node"]["node_id"], &answer["taken"]),
        (&json!("a-private"), &json!(true))
    );
    let own = stage.get_as("node-a-private", &format!("{BASE}/a-private")).await;
    assert_eq!(json_of(own).await["agent_node"]["status"], "online");
    // Its owner's other nodes are not its own.
    let body = json!({"node_id": "b-shared", "mode": "sleep"});
    for what in ["heartbeat", "health", "configuration", "register"] {
        let refused = stage.post_as("node-a-private", &format!("{BASE}/{what}"), &body).await;
        assert_eq!(problem(refused).await["status"], 403, "{what}");
        assert_eq!(stage.notes().last().unwrap().2, "b-shared");
    }
    assert!(stage.fleet.enrolled.lock().unwrap().is_empty());
    assert_eq!(stage.get_as("node-a-private", "/api/v1/nodes").await.status(), 403);
}

#[tokio::test]
async fn who_registers_passes_his_credential_on() {
    let stage = Stage::signed_in().await;
    let answer = stage
        .post_as("key-ann", &format!("{BASE}/register"), &json!({"node_id": "kitchen"}))
        .await;
    let answer = json_of(answer).await;
    assert_eq!(
        (&answer["secret"], &answer["agent_node"]["owner"]),
        (&json!("mns_secret"), &json!("ann"))
    );
    let (caller, request) = stage.fleet.enrolled.lock().unwrap().pop().unwrap();
    assert_eq!(
        (caller.actor.as_str(), request.credential.as_deref()),
        ("user:ann", Some("key-ann"))
    );
}
