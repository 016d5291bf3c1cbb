//! Pause and resume of one, of an agent, of a tenant, of all; accepting goes on, and a restart changes nothing.

use serde_json::{Value, json};

use super::{Field, llm, text};
use crate::harness::{Http, items, unique, until};

/// Two steps outside, one after the other.
fn two_steps(field: &Field, place: &str) -> Value {
    let tool = field.http_tool("work", place, json!({"effect": "idempotent"}));
    llm("mock:script:loop", json!([tool]))
}

fn body() -> Value {
    json!({"payload": {"text": json!({"delay_ms": 300}).to_string()}})
}

async fn start(http: &Http, agent: &str) -> String {
    let accepted = http
        .invoke(agent, "", &json!({"payload": {"text": "hello"}}))
        .await
        .expect(202);
    accepted["id"].as_str().expect("an id").to_owned()
}

/// Nothing of these is started while something else of the same mesh is: that one tells when it would have been.
async fn stay_queued(field: &Field, http: &Http, held: &[&String], free: &str) {
    text(&field.ask(free, "meanwhile").await);
    for id in held {
        let held = http.get(&format!("/api/v1/invocations/{id}")).await;
        assert_eq!(
            (&held["state"], &held["attempt"]),
            (&json!("queued"), &json!(0)),
            "{held}"
        );
    }
}

#[tokio::test]
async fn a_paused_invocation_stops_at_its_next_step_and_goes_on_from_there() {
    let field = Field::shared().await;
    let place = unique("paused");
    let agent = field.agent("paused", two_steps(field, &place)).await;
    let free = field.agent("free", llm("mock:script:echo", json!([]))).await;
    let id = field.start(&agent, &body()).await;
    until(30, "it runs", || async { field.outside.entries(&place).pop() }).await;
    field.cli(&["pause", &id, "--reason", "looking into it"]).await;
    until(30, "it is let go", || async {
        let now = field.get(&id).await;
        (now["state"] == "queued" && now["paused"] == true).then_some(())
    })
    .await;
    let before = field.outside.entries(&place).len();
    text(&field.ask(&free, "meanwhile").await);
    assert_eq!(field.outside.entries(&place).len(), before, "it went on");
    assert!(before < 12, "it was not held");
    field.cli(&["resume", &id]).await;
    let ended = field.http().until_ended(&id).await;
    assert_eq!(ended["reason"], "limit_iterations", "{ended}");
    let entries = field.outside.entries(&place);
    let mut keys: Vec<&String> = entries.iter().map(|entry| &entry.key).collect();
    keys.dedup();
    assert_eq!(keys.len(), entries.len(), "no recorded step ran again");
}

#[tokio::test]
async fn a_paused_agent_and_a_paused_tenant_accept_and_do_not_start() {
    let field = Field::shared().await;
    let free = field.agent("free", llm("mock:script:echo", json!([]))).await;
    let agent = field.agent("held", llm("mock:script:echo", json!([]))).await;
    let tenant = unique("tenant");
    let of_tenant = field.http().tenant(&tenant);
    super::field::declare(&of_tenant, &agent, llm("mock:script:echo", json!([]))).await;
    field
        .post(
            &format!("/api/v1/agents/{agent}/pause"),
            &json!({"reason": "maintenance"}),
        )
        .await;
    field.cli(&["pause", "tenant", &tenant]).await;
    let here = [start(&field.http(), &agent).await, start(&field.http(), &agent).await];
    let there = [start(&of_tenant, &agent).await];
    stay_queued(field, &field.http(), &[&here[0], &here[1]], &free).await;
    stay_queued(field, &of_tenant, &[&there[0]], &free).await;
    let pauses = field.cli(&["get", "pauses"]).await;
    assert!(pauses.stdout.contains(&agent), "{pauses:?}");
    // Each pause is ended by itself.
    field.cli(&["resume", "tenant", &tenant]).await;
    text(&of_tenant.until_ended(&there[0]).await);
    stay_queued(field, &field.http(), &[&here[0]], &free).await;
    field.post(&format!("/api/v1/agents/{agent}/resume"), &json!({})).await;
    for id in &here {
        text(&field.http().until_ended(id).await);
    }
}

/// One mesh and one restart for all that must survive one.
#[tokio::test]
async fn what_is_paused_waits_or_is_to_be_approved_outlives_a_restart() {
    let field = Field::up().await;
    let place = unique("refund");
    let echo = field.agent("echo", llm("mock:script:echo", json!([]))).await;
    let tool = field.http_tool("refund", &place, json!({"approval": "always"}));
    let cashier = field.agent("cashier", llm("mock:script:tools", json!([tool]))).await;
    let listener = field
        .agent("listener", llm("mock:script:tools", json!(["wait_signal"])))
        .await;
    let asking = field
        .start(&cashier, &json!({"payload": {"text": r#"{"amount": 12}"#}}))
        .await;
    let waiting = field
        .start(&listener, &json!({"payload": {"text": r#"{"name": "paid"}"#}}))
        .await;
    let approval = field.approval(&asking).await;
    field.until_state(&waiting, "waiting").await;
    field.cli(&["pause", "--all"]).await;
    let held = start(&field.http(), &echo).await;
    let request = approval["id"].as_str().unwrap();
    // Decided while nothing may run: kept until it may.
    field.mesh.kill_9();
    field.mesh.start(&[]).await;
    assert_eq!(field.approval(&asking).await["id"], approval["id"]);
    field.cli(&["approve", request]).await;
    field.cli(&["signal", &waiting, "paid", "12"]).await;
    let after = start(&field.http(), &echo).await;
    let listed = items(&field.http().get("/api/v1/invocations").await);
    assert!(listed.iter().all(|one| one["state"] != "running"), "{listed:?}");
    assert!(field.outside.entries(&place).is_empty(), "it ran while all was paused");
    field.cli(&["resume", "--all"]).await;
    for id in [&held, &after, &asking, &waiting] {
        text(&field.http().until_ended(id).await);
    }
    assert_eq!(field.outside.entries(&place).len(), 1);
}
