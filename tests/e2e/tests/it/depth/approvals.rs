//! A person is asked: the call waits without a slot, over restarts, and the word decides.

use serde_json::{Value, json};

use super::{Field, llm, of_kind, text, with};
use crate::harness::unique;

fn asking(field: &Field, place: &str) -> Value {
    let tool = field.http_tool("refund", place, json!({"approval": "always"}));
    with(
        llm("mock:script:tools", json!([tool])),
        json!({"limits": {"concurrency": 1}}),
    )
}

fn body() -> Value {
    json!({"payload": {"text": json!({"amount": 12}).to_string()}})
}

#[tokio::test]
async fn a_call_waits_for_a_person_who_sees_it_and_runs_once_when_approved() {
    let field = Field::shared().await;
    let place = unique("refund");
    let agent = field.agent("cashier", asking(field, &place)).await;
    let id = field.start(&agent, &body()).await;
    let waiting = field.until_state(&id, "waiting").await;
    assert_eq!(waiting["waits_for"][0]["on"], "approval", "{waiting}");
    let approval = field.approval(&id).await;
    assert_eq!(
        (&approval["name"], &approval["kind"]),
        (&json!("refund"), &json!("approval"))
    );
    assert_eq!(approval["agent"], json!(agent));
    assert!(approval["input"].to_string().contains("12"), "{approval}");
    assert!(field.outside.entries(&place).is_empty(), "it ran before it was allowed");
    let listed = field.cli(&["approvals"]).await;
    let request = approval["id"].as_str().unwrap();
    assert!(
        listed.stdout.contains(request) && listed.stdout.contains("refund"),
        "{listed:?}"
    );
    // The agent has one slot, and it is free.
    let other = field.start(&agent, &body()).await;
    field.until_state(&other, "waiting").await;
    field.cli(&["approve", request, "--note", "checked with Ann"]).await;
    let ended = field.http().until_ended(&id).await;
    assert!(text(&ended).contains("12"), "{ended}");
    let entries = field.outside.entries(&place);
    let steps = field.http().steps(&id).await;
    let tools = of_kind(&steps, "tool");
    assert_eq!((entries.len(), tools.len()), (1, 1), "{steps:?}");
    assert_eq!(entries[0].key, format!("{id}/{}", tools[0]["number"]));
    let asked = of_kind(&steps, "approval");
    assert_eq!(asked[0]["output"]["approved"], true, "{asked:?}");
    assert_eq!(asked[0]["output"]["note"], "checked with Ann", "{asked:?}");
    assert!(
        asked[0]["started_at"].as_str() < asked[0]["ended_at"].as_str(),
        "it took as long as the person: {asked:?}"
    );
    let again = field
        .http()
        .post(&format!("/api/v1/approvals/{request}"), &json!({"decision": "deny"}))
        .await;
    assert!([404, 409].contains(&again.status), "decided already: {}", again.text);
    field
        .post(&format!("/api/v1/invocations/{other}/cancel"), &json!({}))
        .await;
    assert_eq!(field.http().until_ended(&other).await["state"], "cancelled");
    assert_eq!(field.outside.entries(&place).len(), 1);
}

#[tokio::test]
async fn a_denied_call_does_not_run_and_the_model_reads_why() {
    let field = Field::shared().await;
    let place = unique("refund");
    let agent = field.agent("cashier", asking(field, &place)).await;
    let id = field.start(&agent, &body()).await;
    let approval = field.approval(&id).await;
    let path = format!("/api/v1/approvals/{}", approval["id"].as_str().unwrap());
    field
        .post(&path, &json!({"decision": "deny", "note": "over the limit"}))
        .await;
    let ended = field.http().until_ended(&id).await;
    assert_eq!(text(&ended), "denied: over the limit", "{ended}");
    assert!(field.outside.entries(&place).is_empty());
    let names: Vec<String> = super::sse::events(&field.http(), &id, None)
        .await
        .into_iter()
        .map(|event| event.name)
        .collect();
    for name in [
        "invocation.waiting",
        "approval.requested",
        "approval.decided",
        "invocation.completed",
    ] {
        assert_eq!(names.iter().filter(|one| *one == name).count(), 1, "{name}: {names:?}");
    }
}
