//! `/api/v1/nodes`.

use mesh_types::fleet::NodeMode;
use reqwest::Method;
use serde_json::{Value, json};

use super::fleet::Stage;
use crate::support::{json_of, problem};

#[tokio::test]
async fn the_fleet_is_listed_page_by_page_with_what_is_seen_of_it() {
    let stage = Stage::start().await;
    for number in 0..5 {
        stage.node(&format!("node-{number}"), "dev", NodeMode::Private);
    }
    stage
        .say("heartbeat", &json!({"node_id": "node-1", "running": 2}))
        .await;
    stage
        .say("heartbeat", &json!({"node_id": "node-2", "running": 3}))
        .await;
    stage
        .fleet
        .seen
        .lock()
        .unwrap()
        .get_mut(&"node-2".parse().unwrap())
        .unwrap()
        .alive = false;
    let mut after = String::new();
    let mut found: Vec<Value> = Vec::new();
    loop {
        let page = json_of(
            stage
                .edge
                .get(&format!("/api/v1/nodes?limit=2{after}"))
                .send()
                .await
                .unwrap(),
        )
        .await;
        found.extend(page["items"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    let status: Vec<_> = found.iter().map(|node| node["status"].as_str().unwrap()).collect();
    assert_eq!(status, ["registered", "online", "offline", "registered", "registered"]);
    let running: Vec<_> = found.iter().map(|node| node["running"].as_u64().unwrap()).collect();
    assert_eq!(running, [0, 2, 0, 0, 0], "what is gone runs nothing");
    assert_eq!(
        (&found[0]["name"], &found[0]["last_seen_at"]),
        (&json!("the node-0"), &Value::Null)
    );
}

#[tokio::test]
async fn a_node_is_drained_taken_back_and_forgotten() {
    let stage = Stage::start().await;
    stage.node("kitchen", "dev", NodeMode::Private);
    let path = "/api/v1/nodes/kitchen";
    let drain = format!("{path}/drain");
    let answer = json_of(stage.edge.request(Method::POST, &drain).send().await.unwrap()).await;
    assert_eq!(answer["drained"], true);
    for (body, drained) in [(json!({"drained": false}), false), (json!({}), true)] {
        let answer = json_of(stage.edge.post(&drain, &body).send().await.unwrap()).await;
        assert_eq!(answer["drained"], drained);
        assert_eq!(
            json_of(stage.edge.get(path).send().await.unwrap()).await["drained"],
            drained
        );
    }
    let wrong = stage.edge.post(&drain, &json!({"drain": true})).send().await.unwrap();
    assert_eq!(problem(wrong).await["status"], 400);
    let forgotten = stage.edge.request(Method::DELETE, path).send().await.unwrap();
    assert_eq!(json_of(forgotten).await["node_id"], "kitchen");
    for method in [Method::GET, Method::DELETE] {
        let gone = stage.edge.request(method, path).send().await.unwrap();
        assert_eq!(problem(gone).await["type"], "registry/node-not-found");
    }
    let named = stage.edge.get("/api/v1/nodes/a.b").send().await.unwrap();
    assert_eq!(problem(named).await["status"], 400);
}
