//! Cancel and deadlines reach what runs: whoever is being asked sees the connection close, and the reason stays.

use std::time::{Duration, Instant};

use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{Entry, Field, llm};
use crate::harness::{unique, until};

/// Sooner than its owner would end it alone: five seconds after it was asked.
const WITHIN: Duration = Duration::from_secs(4);

async fn entry(field: &Field, place: &str) -> Entry {
    until(30, &format!("{place} is asked"), || async {
        field.outside.entries(place).pop()
    })
    .await
}

async fn dropped(field: &Field, place: &str) -> Instant {
    until(30, &format!("{place} sees the connection close"), || async {
        field.outside.entries(place).pop()?.dropped
    })
    .await
}

async fn cancel(field: &Field, id: &str, body: &Value) -> Instant {
    let at = Instant::now();
    field.post(&format!("/api/v1/invocations/{id}/cancel"), body).await;
    at
}

#[tokio::test]
async fn cancel_reaches_a_running_model_call() {
    let field = Field::shared().await;
    for prefix in ["gpt-silent", "gpt-stalls"] {
        let model = unique(prefix);
        let agent = field.agent("thinker", llm(&model, json!([]))).await;
        let id = field.start(&agent, &json!({"payload": {"text": "think"}})).await;
        entry(field, &model).await;
        let at = cancel(field, &id, &json!({})).await;
        let took = dropped(field, &model).await.saturating_duration_since(at);
        assert!(took < WITHIN, "{model}: {took:?}");
        let ended = field.http().until_ended(&id).await;
        assert_eq!(
            (&ended["state"], &ended["reason"]),
            (&json!("cancelled"), &json!("operator_canceled"))
        );
        assert_eq!(ended["error"]["type"], "execution/cancelled", "{ended}");
        assert_eq!(field.outside.entries(&model).len(), 1, "{model}: it was asked again");
    }
}

#[tokio::test]
async fn cancel_reaches_a_running_tool_call_and_keeps_its_reason() {
    let field = Field::shared().await;
    for effect in ["idempotent", "at_most_once"] {
        let place = unique("hanging");
        let tool = field.http_tool("hang", &place, json!({"effect": effect}));
        let agent = field.agent("caller", llm("mock:script:tools", json!([tool]))).await;
        let id = field
            .start(&agent, &json!({"payload": {"text": r#"{"hangs": true}"#}}))
            .await;
        entry(field, &place).await;
        let at = cancel(field, &id, &json!({"reason": "the customer left"})).await;
        let took = dropped(field, &place).await.saturating_duration_since(at);
        assert!(took < WITHIN, "{effect}: {took:?}");
        let ended = field.http().until_ended(&id).await;
        assert_eq!(
            (&ended["state"], &ended["reason"]),
            (&json!("cancelled"), &json!("the customer left"))
        );
        let again = field
            .http()
            .post(&format!("/api/v1/invocations/{id}/cancel"), &json!({}))
            .await;
        assert!([200, 409].contains(&again.status), "{}", again.text);
        assert_eq!(
            field.get(&id).await["reason"],
            "the customer left",
            "the first word stands"
        );
    }
}

#[tokio::test]
async fn cancel_kills_the_process_of_a_script() {
    let field = Field::shared().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let command = [
        "sh",
        "-c",
        r#"echo $$ > "$0.new" && mv "$0.new" "$0" && sleep 600 & wait"#,
        file.to_str().unwrap(),
    ];
    let spec = json!({"runtime": "script", "script": {"command": command}});
    let agent = field.agent("sleeper", spec).await;
    let id = field.start(&agent, &json!({"payload": {}})).await;
    let pid = until(30, "the script runs", || async {
        std::fs::read_to_string(&file).ok()?.trim().parse::<i32>().ok()
    })
    .await;
    field.cli(&["cancel", &id]).await;
    until(30, "the process is gone", || async {
        kill(Pid::from_raw(pid), None).is_err().then_some(())
    })
    .await;
    assert_eq!(field.http().until_ended(&id).await["reason"], "operator_canceled");
}

#[tokio::test]
async fn a_deadline_ends_what_runs_waits_or_has_not_begun() {
    let field = Field::shared().await;
    let place = unique("late");
    let tool = field.http_tool("hang", &place, json!({"effect": "idempotent"}));
    let runs = field.agent("late", llm("mock:script:tools", json!([tool]))).await;
    let waits = field
        .agent("waits", llm("mock:script:tools", json!(["wait_signal"])))
        .await;
    for (agent, more) in [
        (&runs, json!({})),
        (&waits, json!({})),
        (&runs, json!({"delay_ms": 60_000})),
    ] {
        let text = json!({"hang": {"hangs": true}, "wait_signal": {"name": "never"}}).to_string();
        let body = json!({"payload": {"text": text}, "deadline_ms": 1_500});
        let began = Instant::now();
        let id = field.start(agent, &super::with(body, more)).await;
        let ended = field.http().until_ended(&id).await;
        assert_eq!(
            (&ended["state"], &ended["reason"]),
            (&json!("failed"), &json!("deadline_exceeded")),
            "{ended}"
        );
        assert!(
            ended["error"]["detail"].as_str().unwrap().contains("deadline"),
            "{ended}"
        );
        let took = began.elapsed();
        assert!(took > Duration::from_millis(1_400), "{took:?}");
    }
    dropped(field, &place).await;
}
