//! A chat with a node as AG-UI events.

use gateway::TunnelConfig;
use mesh_types::fleet::NodeMode;
use serde_json::{Value, json};

use super::node::{FakeNode, Opens};
use super::stage::{Stage, open_to_all};
use crate::support::problem;

fn events(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[tokio::test]
async fn a_chat_with_a_node_is_a_run() {
    let stage = Stage::start(open_to_all(TunnelConfig::default())).await;
    let node = stage.declare("kitchen", "dev", NodeMode::Private);
    let fake = FakeNode::start(&stage, &node, Opens::Yes).await;
    let path = format!("/api/runtimes/v1/agent-nodes/{node}/ag-ui");
    let input = json!({"threadId": "t", "runId": "r", "messages": [{"id": "1", "role": "user", "content": "hi"}]});
    let answer = stage.post(&path, &input).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let events = events(&answer.text().await.unwrap());
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds.join(" "),
        "RUN_STARTED TEXT_MESSAGE_START TEXT_MESSAGE_CONTENT TEXT_MESSAGE_END MESSAGES_SNAPSHOT TEXT_MESSAGE_START \
         TEXT_MESSAGE_CONTENT TEXT_MESSAGE_CONTENT TEXT_MESSAGE_END RUN_FINISHED"
    );
    let snapshot = events
        .iter()
        .find(|event| event["type"] == "MESSAGES_SNAPSHOT")
        .unwrap();
    assert_eq!(snapshot["messages"], input["messages"], "what was void is gone");
    assert_eq!(events.last().unwrap()["result"]["text"], "Hello again");
    let asked = serde_json::to_value(&fake.heard("message")[0]).unwrap();
    assert_eq!(asked["body"], json!({"messages": [{"role": "user", "content": "hi"}]}));
    let missing = stage
        .post("/api/runtimes/v1/agent-nodes/nowhere/ag-ui", &input)
        .send()
        .await
        .unwrap();
    assert_eq!(problem(missing).await["type"], "registry/node-not-found");
}
