//! Pushes of A2A tasks outlive the process that was to tell them.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::declare;
use crate::harness::{Mesh, send, unique, until};

type Told = Arc<Mutex<Vec<Value>>>;

/// Takes what is pushed, until it is dropped; its URL.
async fn receiver(told: &Told) -> (String, JoinSet<()>) {
    let take = |State(told): State<Told>, Json(body): Json<Value>| async move {
        told.lock().unwrap().push(body);
    };
    let app = Router::new().route("/told", post(take)).with_state(Arc::clone(told));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(async move { axum::serve(listener, app).await.expect("it serves") });
    (format!("http://{address}/told"), serving)
}

#[tokio::test]
async fn a_receiver_is_told_of_the_end_although_every_process_was_killed() {
    let mesh = Mesh::up_with(&[("MESH_GATEWAY__PUSH_PRIVATE_NETWORKS", "loopback".to_owned())]).await;
    let http = mesh.http();
    let agent = unique("slow");
    declare(&http, &agent, "mock:script:slow").await;
    let told = Told::default();
    let (url, _serving) = receiver(&told).await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {
        "message": {"messageId": unique("message"), "role": "ROLE_USER", "parts": [{"text": "count"}]},
        "configuration": {"returnImmediately": true, "taskPushNotificationConfig": {"url": url}}}});
    let request = http.request(reqwest::Method::POST, &format!("/a2a/{agent}"));
    let task = send(request.json(&call)).await.expect(200)["result"]["task"].clone();
    let states = || -> Vec<Value> {
        let told = told.lock().unwrap();
        told.iter()
            .map(|event| {
                let status = event.get("statusUpdate").or_else(|| event.get("task"));
                status.map(|one| one["status"]["state"].clone()).unwrap_or_default()
            })
            .collect()
    };
    until(30, "it is told that the task is worked on", || async {
        states().contains(&json!("TASK_STATE_WORKING")).then_some(())
    })
    .await;
    mesh.kill_9();
    mesh.start(&[]).await;
    until(90, "it is told of the end", || async {
        states().contains(&json!("TASK_STATE_COMPLETED")).then_some(())
    })
    .await;
    let told = told.lock().unwrap().clone();
    let last = told.last().expect("something was told");
    assert_eq!(last["task"]["id"], task["id"]);
    let text = last["task"]["artifacts"][0]["parts"][0]["text"]
        .as_str()
        .expect("a text");
    assert!(text.ends_with("token-50 "), "{text}");
}
