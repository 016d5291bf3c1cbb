//! Waits without a slot: `sleep`, `wait_signal`, delays, priorities.

use std::time::{Duration, Instant};

use mesh_types::{Id, InvocationId};
use serde_json::json;
use sqlx::PgPool;

use super::{Field, llm, of_kind, text, with};
use crate::harness::unique;

#[tokio::test]
async fn a_sleeping_invocation_holds_no_slot() {
    let field = Field::shared().await;
    let spec = with(
        llm("mock:script:tools", json!(["sleep"])),
        json!({"limits": {"concurrency": 1}}),
    );
    let agent = field.agent("sleeper", spec).await;
    // One slot, so they can only sleep at the same time if sleeping needs none.
    let body = json!({"payload": {"text": r#"{"seconds": 600}"#}});
    let mut sleepers = Vec::new();
    for _ in 0..4 {
        sleepers.push(field.start(&agent, &body).await);
    }
    for id in &sleepers {
        field.until_state(id, "waiting").await;
    }
    for id in &sleepers {
        assert_eq!(field.get(id).await["state"], "waiting");
        field.cli(&["cancel", id]).await;
    }
    let began = Instant::now();
    let ended = field.ask(&agent, r#"{"seconds": 2}"#).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2), "{took:?}");
    text(&ended);
    let steps = field.http().steps(ended["id"].as_str().unwrap()).await;
    assert_eq!(of_kind(&steps, "timer").len(), 1, "{steps:?}");
}

#[tokio::test]
async fn a_signal_is_waited_for_kept_when_early_and_taken_once() {
    let field = Field::shared().await;
    let agent = field
        .agent("listener", llm("mock:script:tools", json!(["wait_signal"])))
        .await;
    let body = json!({"payload": {"text": r#"{"name": "paid"}"#}});
    let id = field.start(&agent, &body).await;
    let waiting = field.until_state(&id, "waiting").await;
    assert_eq!(waiting["waits_for"][0]["name"], "paid", "{waiting}");
    let path = format!("/api/v1/invocations/{id}/signal");
    field.post(&path, &json!({"name": "other", "value": 1})).await;
    assert_eq!(field.get(&id).await["state"], "waiting", "another signal wakes nobody");
    field.cli(&["signal", &id, "paid", r#"{"amount": 12}"#]).await;
    let ended = field.http().until_ended(&id).await;
    assert!(text(&ended).contains(r#""amount":12"#), "{ended}");
    let late = field.http().post(&path, &json!({"name": "paid"})).await;
    assert_eq!(late.status, 409, "{}", late.text);
    // Told before it waits.
    let early = field
        .start(&agent, &json!({"delay_ms": 700, "payload": body["payload"]}))
        .await;
    let path = format!("/api/v1/invocations/{early}/signal");
    field.post(&path, &json!({"name": "paid", "value": "early"})).await;
    assert!(text(&field.http().until_ended(&early).await).contains("early"));
    // Nobody tells it.
    let ended = field.ask(&agent, r#"{"name": "never", "timeout_seconds": 0.5}"#).await;
    let steps = field.http().steps(ended["id"].as_str().unwrap()).await;
    assert_eq!(of_kind(&steps, "signal").len(), 1, "{ended}");
    text(&ended);
}

#[tokio::test]
async fn a_delay_is_waited_out_and_a_higher_priority_goes_first() {
    let field = Field::shared().await;
    let place = unique("ordered");
    let spec = json!({"runtime": "http", "limits": {"concurrency": 1},
        "http": {"url": field.outside.url(&format!("tool/{place}")), "effect": "idempotent"}});
    let agent = field.agent("ordered", spec).await;
    let message = |number: u64, delay: u64| json!({"number": number, "delay_ms": delay});
    let began = Instant::now();
    let delayed = field
        .start(&agent, &json!({"delay_ms": 3_000, "payload": message(99, 0)}))
        .await;
    assert_eq!(field.get(&delayed).await["state"], "queued");
    // Held until all have come.
    field.post(&format!("/api/v1/agents/{agent}/pause"), &json!({})).await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        for priority in [1, 9, 5] {
            let body = json!({"payload": message(priority, 20), "priority": priority});
            ids.push(field.start(&agent, &body).await);
        }
    }
    field.post(&format!("/api/v1/agents/{agent}/resume"), &json!({})).await;
    ids.push(delayed);
    for id in &ids {
        assert_eq!(field.http().until_ended(id).await["state"], "completed");
    }
    let entries = field.outside.entries(&place);
    let delayed = entries
        .iter()
        .find(|entry| entry.body["payload"]["number"] == 99)
        .expect("it ran");
    assert!(delayed.started - began >= Duration::from_secs(3), "it came too early");
    // An owner's lane of shards keeps the order: higher first, then age; what waits on the other lane is beside it.
    let pool = field.mesh.database().await;
    for lane in [0, 1] {
        let mut order = Vec::new();
        for entry in entries.iter().filter(|entry| entry.body["payload"]["number"] != 99) {
            let id = entry.key.trim_end_matches("/1");
            if lane_of(&pool, id).await == lane {
                order.push((
                    entry.body["payload"]["number"].as_u64(),
                    ids.iter().position(|one| one == id),
                ));
            }
        }
        let mut expected = order.clone();
        expected.sort_by_key(|(priority, position)| (std::cmp::Reverse(*priority), *position));
        assert_eq!(order, expected, "lane {lane}");
    }
}

/// Of the two that the process has by default.
async fn lane_of(pool: &PgPool, id: &str) -> i32 {
    let id: InvocationId = id.parse().unwrap();
    let shard: i16 = sqlx::query_scalar("SELECT shard FROM execution.invocation WHERE id = $1::uuid")
        .bind(format!("{:032x}", id.as_u128()))
        .fetch_one(pool)
        .await
        .unwrap();
    i32::from(shard) % 2
}
