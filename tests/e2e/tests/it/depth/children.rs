//! Agents that call agents: the parent waits without a slot, gets the result or the failure, and takes its children
//! with it; how deep and how many is limited by name.

use serde_json::{Value, json};

use super::{Field, llm, of_kind, text, with};
use crate::harness::{unique, until};

fn helper(agent: &str) -> Value {
    json!({"name": "helper", "kind": "agent", "agent": agent})
}

/// One whose calls are what the parent's model says, as they are.
fn verbatim(agent: &str) -> Value {
    with(helper(agent), json!({"parameters": {"type": "object"}}))
}

fn remote(field: &Field, place: &str) -> Value {
    json!({"runtime": "http", "retry": {"attempts": 1},
        "http": {"url": field.outside.url(&format!("tool/{place}")), "effect": "idempotent"}})
}

#[tokio::test]
async fn a_parent_waits_for_its_child_without_a_slot_and_uses_its_answer() {
    let field = Field::shared().await;
    let researcher = field.agent("researcher", llm("mock:script:words", json!([]))).await;
    let spec = with(
        llm("mock:script:tools", json!([helper(&researcher)])),
        json!({"limits": {"concurrency": 1}}),
    );
    let editor = field.agent("editor", spec).await;
    let body = json!({"payload": {"text": "what is there to know"}});
    let id = field.start(&editor, &body).await;
    let waiting = field.until_state(&id, "waiting").await;
    assert_eq!(waiting["waits_for"][0]["on"], "child", "{waiting}");
    // Its only slot is free for another of its kind, meanwhile.
    let other = field.start(&editor, &body).await;
    field.until_state(&other, "waiting").await;
    for id in [&id, &other] {
        let ended = field.http().until_ended(id).await;
        assert!(
            text(&ended).starts_with("w0 w1 ") && text(&ended).contains("w39"),
            "{ended}"
        );
        let child = field.children(id, 1).await[0]["id"].as_str().unwrap().to_owned();
        let child = field.get(&child).await;
        assert_eq!(
            (&child["agent"], &child["state"]),
            (&json!(researcher), &json!("completed"))
        );
        assert_eq!(child["parent"], json!(id));
        assert_eq!(child["payload"]["text"], "what is there to know");
        let steps = field.http().steps(id).await;
        let called = of_kind(&steps, "child");
        assert_eq!(called.len(), 1, "{steps:?}");
        assert!(called[0]["output"].to_string().contains("w39"), "{called:?}");
    }
}

#[tokio::test]
async fn a_child_that_fails_is_told_to_the_model() {
    let field = Field::shared().await;
    let child = field.agent("failing", remote(field, &unique("remote"))).await;
    let parent = field
        .agent("parent", llm("mock:script:tools", json!([verbatim(&child)])))
        .await;
    let ended = field.ask(&parent, &json!({"fails": 500}).to_string()).await;
    assert!(
        text(&ended).starts_with("error: ") && text(&ended).contains("500"),
        "{ended}"
    );
    let nobody = field
        .agent("lonely", llm("mock:script:tools", json!([helper(&unique("nobody"))])))
        .await;
    let ended = field.ask(&nobody, "is anybody there").await;
    assert!(text(&ended).contains("There is no such agent"), "{ended}");
}

#[tokio::test]
async fn a_cancelled_parent_takes_its_running_children_with_it() {
    let field = Field::shared().await;
    let place = unique("hanging");
    let child = field.agent("hanging", remote(field, &place)).await;
    let parent = field
        .agent("parent", llm("mock:script:tools", json!([verbatim(&child)])))
        .await;
    let id = field
        .start(&parent, &json!({"payload": {"text": r#"{"hangs": true}"#}}))
        .await;
    until(30, "the child runs", || async { field.outside.entries(&place).pop() }).await;
    field
        .post(&format!("/api/v1/invocations/{id}/cancel"), &json!({}))
        .await;
    let ended = field.http().until_ended(&id).await;
    assert_eq!(
        (&ended["state"], &ended["reason"]),
        (&json!("cancelled"), &json!("operator_canceled"))
    );
    let child = field.children(&id, 1).await[0]["id"].as_str().unwrap().to_owned();
    let ended = field.http().until_ended(&child).await;
    assert_eq!(ended["state"], "cancelled", "{ended}");
    until(30, "the child's call is cut", || async {
        field.outside.entries(&place).pop()?.dropped
    })
    .await;
}

#[tokio::test]
async fn depth_and_fan_out_end_at_their_limits_by_name() {
    let field = Field::shared().await;
    let name = unique("mirror");
    let spec = with(
        llm("mock:script:tools", json!([helper(&name)])),
        json!({"limits": {"depth": 2}}),
    );
    super::field::declare(&field.http(), &name, spec).await;
    let ended = field.ask(&name, "look into yourself").await;
    assert!(text(&ended).contains("spec.limits.depth of 2 is reached"), "{ended}");
    let child = field.children(ended["id"].as_str().unwrap(), 1).await.remove(0);
    let grandchild = field.children(child["id"].as_str().unwrap(), 1).await.remove(0);
    let path = format!("/api/v1/invocations?parent={}", grandchild["id"].as_str().unwrap());
    assert!(crate::harness::items(&field.http().get(&path).await).is_empty());

    let echo = field.agent("echo", llm("mock:script:echo", json!([]))).await;
    let spec = with(
        llm("mock:script:children", json!([helper(&echo)])),
        json!({"limits": {"children": 2}}),
    );
    let agent = field.agent("many", spec).await;
    let ended = field.ask(&agent, "x").await;
    for part in ["first of x", "second of x", "spec.limits.children of 2 is reached"] {
        assert!(text(&ended).contains(part), "{part}: {ended}");
    }
    assert_eq!(field.children(ended["id"].as_str().unwrap(), 2).await.len(), 2);
}
