//! A database that went back in time is not served before an operator says so; and what is pruned, when it is old.

use std::time::Duration;

use mesh_api::execution::State;
use mesh_bus::StreamName;
use mesh_testkit::wait_until;
use mesh_types::{Code, Subject};
use serde_json::json;

use crate::mesh::{Mesh, SOON, request};
use crate::process::{Process, config};

/// JOURNAL has heard of some batch of some shard.
async fn a_mark(mesh: &Mesh) -> u16 {
    for shard in (0..16).cycle() {
        let last = mesh
            .bus
            .last_message(StreamName::Journal, &Subject::JournalMark { shard })
            .await
            .unwrap();
        if last.is_some() {
            return shard;
        }
        tokio::task::yield_now().await;
    }
    unreachable!()
}

#[tokio::test]
async fn an_older_database_is_refused_until_an_operator_accepts_it() {
    let (mesh, process) = Mesh::start().await;
    assert_eq!(mesh.call("noop", "{}").await["state"], "completed");
    let shard = tokio::time::timeout(SOON, a_mark(&mesh)).await.unwrap();
    let feed = mesh.status().await.feed_id;
    process.stop().await;
    // As a restore from before that batch leaves it.
    sqlx::query("UPDATE execution.shard SET batch = 0, relayed_batch = 0 WHERE id = $1")
        .bind(i16::try_from(shard).unwrap())
        .execute(&mesh.pool)
        .await
        .unwrap();
    sqlx::query("DELETE FROM execution.feed")
        .execute(&mesh.pool)
        .await
        .unwrap();
    let refusing = mesh.process("one").await;
    let refused = || async {
        let tried = mesh.accept("noop", request(json!({})), Duration::ZERO).await;
        tried.is_err_and(|problem| problem.is(Code::DatabaseWentBack))
    };
    wait_until(SOON, refused).await;
    assert_eq!(
        mesh.count("SELECT count(*) FROM execution.shard WHERE owner <> ''")
            .await,
        0,
        "nothing is taken"
    );
    refusing.stop().await;
    let accepting = execution::Config {
        accept_older_database: true,
        ..config(&mesh.database_url, "one")
    };
    let accepting = Process::start(mesh.nats.url(), accepting).await;
    mesh.owned_by(&[("one", 16)]).await;
    assert_eq!(mesh.call("noop", "{}").await["state"], "completed");
    assert_ne!(mesh.status().await.feed_id, feed, "a new feed begins");
    mesh.check().await;
    accepting.stop().await;
    // From now on without being told.
    let _process = mesh.process("one").await;
    mesh.owned_by(&[("one", 16)]).await;
    assert_eq!(mesh.call("noop", "{}").await["state"], "completed");
}

#[tokio::test]
async fn keys_and_feed_are_pruned_when_they_are_old_and_not_before() {
    let (mesh, process) = Mesh::start().await;
    for key in ["old", "new"] {
        let body = request(json!({"idempotency_key": key}));
        assert_eq!(mesh.accept("noop", body, SOON).await.unwrap().state, State::Completed);
    }
    let open = request(json!({"idempotency_key": "open", "delay_ms": 86_400_000}));
    mesh.accept("noop", open, Duration::ZERO).await.unwrap();
    mesh.check().await;
    process.stop().await;
    for sql in [
        "UPDATE execution.key SET ended_at = ended_at - interval '8 days' WHERE key = 'old'",
        "UPDATE execution.feed SET at = at - interval '8 days' WHERE (shard, batch) IN (SELECT shard, min(batch) FROM execution.feed GROUP BY shard)",
    ] {
        sqlx::query(sql).execute(&mesh.pool).await.unwrap();
    }
    let aged = mesh
        .count("SELECT count(*) FROM execution.feed WHERE at < now() - interval '7 days'")
        .await;
    let fresh = mesh
        .count("SELECT count(*) FROM execution.feed WHERE at > now() - interval '7 days'")
        .await;
    assert!(aged > 0 && fresh > 0);
    let _process = mesh.process("one").await;
    let is_pruned = || async { mesh.count("SELECT count(*) FROM execution.key").await == 2 };
    wait_until(SOON, is_pruned).await;
    wait_until(SOON, || async {
        mesh.count("SELECT count(*) FROM execution.feed WHERE at < now() - interval '7 days'")
            .await
            == 0
    })
    .await;
    assert!(mesh.count("SELECT count(*) FROM execution.feed").await >= fresh);
    // Its key is free again, and its invocation still there.
    let again = mesh
        .accept("noop", request(json!({"idempotency_key": "old"})), SOON)
        .await
        .unwrap();
    assert_eq!(again.state, State::Completed);
    assert_eq!(mesh.check().await, 4);
}
