//! Several processes: shares, takeover, hand-over, names.

use std::time::{Duration, Instant};

use execution::Error;
use mesh_api::execution::{ExecutionStatusView, Invocation, State};
use serde_json::json;

use crate::figures::sum;
use crate::mesh::{Mesh, SOON, request};
use crate::process::{Process, config};

/// So many slow invocations, each held in its model.
async fn hold(mesh: &Mesh, count: usize) -> Vec<Invocation> {
    let mut open = Vec::new();
    for n in 0..count {
        let body = json!({"payload": {"text": format!("{n}"), "channel_id": "room"}});
        open.push(mesh.accept("slow", request(body), Duration::ZERO).await.unwrap());
    }
    mesh.held_models(count).await;
    open
}

/// How many shards it took over for that reason.
fn taken(process: &Process, reason: &str) -> f64 {
    let reason = format!(r#"reason="{reason}""#);
    sum(&process.metrics, "mesh_shard_takeovers_total", &[&reason])
}

/// Waits until that process has said once more that it is there.
async fn beats(mesh: &Mesh, owner: &str) {
    let beat = || async {
        let sql = "SELECT sum(beat)::bigint FROM execution.shard WHERE owner = $1";
        let beat: i64 = sqlx::query_scalar(sql).bind(owner).fetch_one(&mesh.pool).await.unwrap();
        beat
    };
    let before = beat().await;
    mesh_testkit::wait_until(SOON, || async { beat().await > before }).await;
}

fn epochs(status: &ExecutionStatusView) -> Vec<u64> {
    status.shards.iter().map(|shard| shard.epoch).collect()
}

#[tokio::test]
async fn two_processes_share_the_shards_evenly_and_either_takes_every_request() {
    let (mesh, _one) = Mesh::start().await;
    let two = mesh.process("two").await;
    mesh.owned_by(&[("one", 8), ("two", 8)]).await;
    let all = futures::future::join_all((0..60).map(|_| mesh.accept("noop", request(json!({})), SOON))).await;
    assert!(
        all.iter()
            .all(|answer| answer.as_ref().unwrap().state == State::Completed),
        "{all:?}"
    );
    for n in 0..20 {
        let body = json!({"payload": {"n": n}, "idempotency_key": format!("k{n}")});
        let first = mesh.accept("noop", request(body.clone()), SOON).await.unwrap();
        assert_eq!(
            mesh.accept("noop", request(body), SOON).await.unwrap(),
            first,
            "whoever is asked"
        );
    }
    let holders = mesh
        .count("SELECT count(DISTINCT shard) FROM execution.invocation")
        .await;
    assert!(holders > 8, "both ran some");
    // Both read models and feeds are caught up: ask the owner of each.
    two.stop().await;
    mesh.owned_by(&[("one", 16)]).await;
    assert_eq!(mesh.check().await, 80);
}

#[tokio::test]
async fn a_killed_process_is_taken_over_and_recorded_steps_are_not_run_again() {
    let (mesh, one) = Mesh::start().await;
    let two = mesh.process("two").await;
    mesh.owned_by(&[("one", 8), ("two", 8)]).await;
    let open = hold(&mesh, 24).await;
    // The first half has its model's answer recorded and hangs no more; the others are in the middle of the step.
    mesh.world.let_go(12);
    mesh.held_models(12).await;
    mesh.all_ended_at_least(12).await;
    let before = mesh.world.completions.lock().unwrap().clone();
    beats(&mesh, "one").await;
    let killed = Instant::now();
    one.kill();
    mesh.owned_by(&[("two", 16)]).await;
    let silence = killed.elapsed();
    assert!(
        silence >= Duration::from_millis(2_000),
        "nobody is taken over before the silence is over: {silence:?}"
    );
    mesh_testkit::wait_until(SOON, || async { taken(&two, "silent") == 8.0 }).await;
    mesh.world.let_go(100);
    for invocation in &open {
        let ended = mesh.ended(invocation.id).await;
        assert_eq!(ended.state, State::Completed, "{ended:?}");
    }
    let after = mesh.world.completions.lock().unwrap().clone();
    assert_eq!(after.len(), 24, "the same step has the same key");
    let again = after
        .iter()
        .filter(|(key, times)| before.get(*key) != Some(times))
        .count();
    assert!(again <= 12, "only steps without a record ran again: {again}");
    assert_eq!(mesh.world.posts.lock().unwrap().len(), 24, "one message each");
    assert_eq!(mesh.check().await, 24);
    two.stop().await;
}

#[tokio::test]
async fn a_process_that_stops_hands_its_shards_back_at_once() {
    let (mesh, one) = Mesh::start().await;
    let two = mesh.process("two").await;
    mesh.owned_by(&[("one", 8), ("two", 8)]).await;
    hold(&mesh, 8).await;
    one.stop().await;
    mesh.owned_by(&[("two", 16)]).await;
    assert_eq!(taken(&two, "silent"), 0.0, "no silence was waited for");
    mesh.world.let_go(100);
    mesh.all_ended(8).await;
    assert_eq!(mesh.check().await, 8);
    two.stop().await;
    mesh.owned_by(&[("", 16)]).await;
}

#[tokio::test]
async fn a_restarted_process_of_the_same_name_takes_its_shards_at_once() {
    let (mesh, one) = Mesh::start().await;
    hold(&mesh, 4).await;
    let before = epochs(&mesh.status().await);
    one.kill();
    let one = mesh.process("one").await;
    mesh.held_models(8).await;
    // The shards of those four may be the first that it takes.
    mesh_testkit::wait_until(SOON, || async { taken(&one, "own") + taken(&one, "silent") >= 16.0 }).await;
    assert_eq!(taken(&one, "silent"), 0.0, "no silence was waited for");
    let after = epochs(&mesh.status().await);
    assert!(
        before.iter().zip(&after).all(|(before, after)| after > before),
        "{before:?} {after:?}"
    );
    mesh.world.let_go(8);
    mesh.all_ended(4).await;
    assert_eq!(mesh.check().await, 4);
}

#[tokio::test]
async fn a_namesake_stops_and_the_other_goes_on() {
    let (mesh, mut one) = Mesh::start().await;
    let mut namesake = Process::start(mesh.nats.url(), config(&mesh.database_url, "one")).await;
    let ended = tokio::select! {
        ended = one.end() => ended,
        ended = namesake.end() => ended,
    };
    assert!(matches!(ended, Err(Error::Namesake(_))), "{ended:?}");
    assert_eq!(mesh.call("noop", "{}").await["state"], "completed");
    mesh.check().await;
}

#[tokio::test]
async fn a_caller_hears_of_the_end_although_the_shard_moved_meanwhile() {
    let (mesh, _one) = Mesh::start().await;
    // All are asked of process one, and half of the shards go to process two while they run.
    let asked = futures::future::join_all((0..30).map(|n| {
        let body = request(json!({"payload": {"text": format!("{n}")}}));
        mesh.accept("slow", body, SOON)
    }));
    let (answers, two) = tokio::join!(asked, async {
        mesh.held_models(30).await;
        let two = mesh.process("two").await;
        mesh.owned_by(&[("one", 8), ("two", 8)]).await;
        mesh.world.let_go(100);
        two
    });
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().unwrap().state == State::Completed),
        "{answers:?}"
    );
    let moved = mesh.count("SELECT count(*) FROM execution.ended WHERE epoch > 1").await;
    assert!(moved > 0, "some did move");
    two.stop().await;
    assert_eq!(mesh.check().await, 30);
}
