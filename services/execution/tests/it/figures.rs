//! What `/metrics` says of execution: each committed step once, whoever goes on with it, and what waits.

use mesh_runtime::Metrics;
use mesh_testkit::wait_until;
use serde_json::json;

use crate::mesh::{Mesh, SOON};

/// Sum of the series of this name that have all these labels.
pub(crate) fn sum(metrics: &Metrics, name: &str, labels: &[&str]) -> f64 {
    let text = metrics.render().unwrap();
    let of = text.lines().filter(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && labels.iter().all(|label| line.contains(label))
    });
    of.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

#[tokio::test]
async fn what_a_takeover_goes_on_with_is_counted_once_and_told_as_one() {
    let (mesh, first) = Mesh::start().await;
    let before = first.metrics.clone();
    mesh.publish("mesh.invoke.default.noop", "{}").await;
    for n in 0..6 {
        mesh.publish("mesh.invoke.default.slow", json!({"payload": {"n": n}}).to_string())
            .await;
    }
    mesh.held_models(6).await;
    let open =
        |metrics: &Metrics, state: &str| sum(metrics, "mesh_invocations_open", &[&format!(r#"state="{state}""#)]);
    wait_until(SOON, || async {
        open(&before, "running") == 6.0 && open(&before, "queued") == 0.0
    })
    .await;
    assert_eq!(sum(&before, "mesh_shards_owned", &[]), 16.0);
    assert_eq!(
        sum(&before, "mesh_invocations_accepted_total", &[r#"by="request""#]),
        7.0
    );
    first.kill();
    let second = mesh.process("two").await;
    let after = second.metrics.clone();
    mesh.world.let_go(100);
    mesh.all_ended(7).await;
    let silent = [r#"reason="silent""#];
    // Shards without work may be the last that it takes.
    wait_until(SOON, || async {
        sum(&after, "mesh_shard_takeovers_total", &silent) == 16.0
    })
    .await;
    assert_eq!(sum(&after, "mesh_leases_lost_total", &[r#"reason="owner""#]), 6.0);
    assert_eq!(sum(&after, "mesh_replays_total", &[r#"reason="loss""#]), 6.0);
    // Steps that are recorded, of which each is counted by whoever committed it.
    let slow = [r#"agent="slow""#, r#"tenant="default""#];
    let both = |name: &str, labels: &[&str]| sum(&before, name, labels) + sum(&after, name, labels);
    wait_until(SOON, || async { both("mesh_agent_model_calls_total", &slow) == 6.0 }).await;
    assert_eq!(both("mesh_steps_recorded_total", &[r#"kind="model""#]), 6.0);
    // 3 tokens in, half a dollar a call.
    let input = [slow[0], slow[1], r#"direction="input""#];
    assert_eq!(both("mesh_agent_tokens_total", &input), 18.0);
    assert_eq!(both("mesh_agent_cost_total", &slow), 3_000_000.0);
    assert_eq!(both("mesh_invocations_ended_total", &[r#"outcome="completed""#]), 7.0);
    assert_eq!(both("mesh_invocation_duration_seconds_count", &[]), 7.0);
    assert_eq!(open(&after, "running"), 0.0);
    wait_until(SOON, || async { sum(&after, "mesh_relay_lag", &[]) == 0.0 }).await;
    assert_eq!(mesh.check().await, 7);
}

#[tokio::test]
async fn what_waits_for_a_slot_is_shown_and_vanishes_when_it_runs() {
    let (mesh, process) = Mesh::start().await;
    let metrics = process.metrics.clone();
    for n in 0..5 {
        mesh.publish("mesh.invoke.default.narrow", json!({"payload": {"n": n}}).to_string())
            .await;
    }
    // It has two slots.
    let narrow = [r#"agent="narrow""#, r#"tenant="default""#];
    wait_until(SOON, || async { sum(&metrics, "mesh_queue_waiting", &narrow) == 3.0 }).await;
    assert!(metrics.render().unwrap().contains("mesh_queue_age_seconds{"));
    mesh.world.let_go(5);
    mesh.all_ended(5).await;
    wait_until(SOON, || async {
        !metrics.render().unwrap().contains("mesh_queue_waiting{")
    })
    .await;
    assert!(sum(&metrics, "mesh_dispatch_duration_seconds_count", &[]) >= 5.0);
}

#[tokio::test]
async fn a_refusal_is_counted_by_its_type() {
    let (mesh, process) = Mesh::start().await;
    let refused = mesh
        .accept("nobody", crate::mesh::request(json!({})), SOON)
        .await
        .unwrap_err();
    let reason = format!(r#"reason="{}""#, refused.kind);
    assert_eq!(sum(&process.metrics, "mesh_invocations_refused_total", &[&reason]), 1.0);
}
