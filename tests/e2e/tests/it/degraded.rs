//! What an agent does when memory or its model is not there: it answers, and the step says so.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::Connection;

use crate::harness::{Mesh, Script, kinds, unique};
use crate::readme::CHANNEL_STEPS;

fn of_kind<'a>(steps: &'a [Value], kind: &str) -> &'a Value {
    let found = steps.iter().find(|step| step["kind"] == kind);
    found.unwrap_or_else(|| panic!("no step {kind} in {steps:?}"))
}

#[tokio::test]
async fn an_agent_whose_memory_does_not_answer_replies_without_it_and_its_steps_say_so() {
    // A mesh of its own: the lock stops the memory of every agent.
    let mesh = Mesh::up().await;
    let (http, channel) = (mesh.http(), unique("channel"));
    let mut locker = sqlx::PgConnection::connect(&mesh.state().database).await.unwrap();
    let mut lock = locker.begin().await.unwrap();
    sqlx::query("LOCK TABLE memory.memory IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *lock)
        .await
        .unwrap();
    let marker = unique("said");
    let body = json!({"payload": {"channel_id": channel, "text": marker}});
    let began = Instant::now();
    let accepted = http.invoke("sofia", "", &body).await.expect(202);
    let replies = http.replies(&channel).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2), "it was waited for: {took:?}");
    assert_eq!(replies[0]["text"], format!("The model heard: {marker}"));
    // The write-back finds the same closed door.
    let id = accepted["id"].as_str().unwrap();
    let ended = http.until_ended(id).await;
    lock.rollback().await.unwrap();
    assert_eq!(ended["state"], "completed", "{ended}");
    let steps = http.steps(id).await;
    assert_eq!(kinds(&steps), CHANNEL_STEPS);
    for kind in ["context.memories", "memory.store"] {
        let error = &of_kind(&steps, kind)["error"];
        assert!(error["detail"].is_string(), "{kind}: {error}");
    }
    assert!(of_kind(&steps, "message.post")["error"].is_null());
    assert_eq!(mesh.model.calls(&marker).len(), 1);
    assert_eq!(http.messages(&channel).await.len(), 1, "the reply is not repeated");
    // With the memory back, the next one remembers.
    let again = json!({"payload": {"channel_id": channel, "text": unique("said")}});
    let ended = http.invoke("sofia", "?wait=30", &again).await.expect(200);
    let steps = http.steps(ended["id"].as_str().unwrap()).await;
    assert!(steps.iter().all(|step| step["error"].is_null()), "{steps:?}");
}

#[tokio::test]
async fn an_agent_whose_model_is_down_answers_by_the_mock_and_says_so() {
    let mesh = Mesh::shared().await;
    let (http, marker) = (mesh.http(), unique("down"));
    mesh.model.script(Script {
        of: marker.clone(),
        delay: Duration::ZERO,
        fails: Some(500),
    });
    let body = json!({"payload": {"text": format!("hello {marker}")}});
    let ended = http.invoke("sofia", "?wait=30", &body).await.expect(200);
    assert_eq!(
        (&ended["state"], &ended["provider"]),
        (&json!("completed"), &json!("mock")),
        "{ended}"
    );
    let text = ended["output"]["text"].as_str().unwrap();
    assert!(text.starts_with("Hello!"), "the mock's greeting: {text}");
    let steps = http.steps(ended["id"].as_str().unwrap()).await;
    let model = of_kind(&steps, "model");
    assert_eq!(model["output"]["provider"], "mock", "{model}");
    assert!(model["output"]["failed"].to_string().contains("gpt-4"), "{model}");
    assert!(!mesh.model.calls(&marker).is_empty());
    // The model is back for the next one.
    let body = json!({"payload": {"text": unique("up")}});
    let ended = http.invoke("sofia", "?wait=30", &body).await.expect(200);
    assert_eq!(ended["provider"], "openai", "{ended}");
}
