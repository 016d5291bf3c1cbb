//! The ceiling on a real Postgres: its rows are where the mesh's are, and go again.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use mesh_store::{Role, StoreOptions};
use mesh_testkit::TestDatabase;

use super::rows::{Entry, Fence, InvocationRow, RecordRow, Template, read, write};
use super::scratch::FIRST_SHARD;
use super::*;
use crate::bench::ceiling::{self, Bounds};

fn invocation() -> InvocationRow {
    InvocationRow {
        agent: "bench-noop-2".into(),
        version: 1,
        artifact: "a".repeat(64),
        entrypoint: "invoke".into(),
        priority: 5,
        request_hash: vec![7; 32],
        actor: "dev".into(),
        input: b"{}".to_vec(),
        outcome: "completed".into(),
        output: Some(br#"{"steps":2}"#.to_vec()),
        attempt: 1,
        short_text: "hello".into(),
    }
}

fn record(seq: i32, kind: &str, body: &str) -> RecordRow {
    let is_done = kind == "done";
    RecordRow {
        seq,
        epoch: i32::from(seq > 1),
        kind: kind.into(),
        step: is_done.then_some(seq - 2),
        attempt: is_done.then_some(1),
        class: is_done.then(|| "pure".into()),
        input_hash: None,
        body: Some(body.into()),
        input_tokens: is_done.then_some(0),
        output_tokens: is_done.then_some(0),
        cost_usd: is_done.then_some(0.0),
        is_timed: is_done,
    }
}

fn template() -> Template {
    let records = vec![
        record(1, "accepted", "{}"),
        record(
            2,
            "claimed",
            r#"{"record":"claimed","holder":"hosted","incarnation":9}"#,
        ),
        record(3, "done", "{}"),
        record(4, "done", "{}"),
        record(5, "ended", "{}"),
    ];
    Template::new(invocation(), records)
}

async fn pools(database: &TestDatabase) -> (PgPool, PgPool) {
    let options = StoreOptions {
        url: database.url().to_owned(),
        role: Role::Execution,
        connections_max: 3,
    };
    (
        mesh_store::connect(&options).await.unwrap(),
        connect_as_owner(database.url()).unwrap(),
    )
}

async fn rows(lanes: &PgPool) -> i64 {
    sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM execution.invocation) + (SELECT count(*) FROM execution.record)
            + (SELECT count(*) FROM execution.ended) + (SELECT count(*) FROM execution.summary)
            + (SELECT count(*) FROM execution.feed) + (SELECT count(*) FROM execution.open)",
    )
    .fetch_one(lanes)
    .await
    .unwrap()
}

#[tokio::test]
async fn the_ceiling_writes_the_rows_of_an_invocation_and_removes_them() {
    let database = TestDatabase::create().await;
    let (lanes, owner) = pools(&database).await;
    scratch::create(&owner).await.unwrap();
    let template = template();
    assert_eq!(template.commits.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 2]);
    let at: DateTime<Utc> = "2026-11-21T12:00:00Z".parse().unwrap();
    let id = Uuid::from_u128(u128::from(at.timestamp_millis().cast_unsigned()) << 80 | 5);
    let mut connection = lanes.acquire().await.unwrap();
    for commit in 0..template.commits.len() {
        let entry = Entry {
            id,
            shard: FIRST_SHARD,
            commit,
        };
        let fence = Fence {
            shard: FIRST_SHARD,
            batch: i64::try_from(commit).unwrap(),
            feed: vec![1; 20],
        };
        let fences = [fence];
        assert_eq!(
            write(&mut connection, &template, &fences, &[entry], at).await.unwrap(),
            1
        );
        // Its fence has moved on: the same batch writes nothing.
        assert_eq!(
            write(&mut connection, &template, &fences, &[entry], at).await.unwrap(),
            0
        );
    }
    assert_eq!(completed(&lanes, &[id]).await.unwrap(), 1);
    let (tenant, agent) = (CEILING_TENANT.parse().unwrap(), "bench-noop-2".parse().unwrap());
    assert_eq!(newest(&lanes, &tenant).await.unwrap(), id);
    assert_eq!(completed_after(&lanes, &tenant, &agent, Uuid::nil()).await.unwrap(), 1);
    assert_eq!(completed_after(&lanes, &tenant, &agent, id).await.unwrap(), 0);
    let again = read(&lanes, &tenant, &agent).await.unwrap().unwrap();
    assert_eq!(format!("{again:?}"), format!("{template:?}"));
    // invocation, 5 records, ended, summary, 3 batches of feed; what was open is closed.
    assert_eq!(rows(&lanes).await, 11);
    drop(connection);
    scratch::remove(&owner).await.unwrap();
    assert_eq!(rows(&lanes).await, 0);
    let table: Option<String> = sqlx::query_scalar("SELECT to_regclass('execution.bench_ceiling_shard')::text")
        .fetch_one(&owner)
        .await
        .unwrap();
    assert_eq!(table, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ceiling_is_the_best_of_its_batches_and_leaves_nothing() {
    let database = TestDatabase::create().await;
    let (lanes, owner) = pools(&database).await;
    let bounds = Bounds {
        time: Duration::from_secs(30),
        count: 50,
    };
    let ceiling = ceiling::measure(&lanes, &owner, &Arc::new(template()), 8, bounds)
        .await
        .unwrap();
    assert!(
        ceiling.per_second > 0.0 && ceiling.p50_ms > 0.0 && ceiling.p50_ms <= ceiling.p99_ms,
        "{ceiling:?}"
    );
    // What was begun while it warmed up ends within the count.
    assert!((50..=58).contains(&ceiling.invocations), "{ceiling:?}");
    assert_eq!(rows(&lanes).await, 0);
}

#[tokio::test]
async fn one_measurement_runs_at_a_time() {
    let database = TestDatabase::create().await;
    let (_, owner) = pools(&database).await;
    let lock = scratch::lock(&owner).await.unwrap().unwrap();
    assert!(scratch::lock(&owner).await.unwrap().is_none());
    lock.release().await.unwrap();
    assert!(scratch::lock(&owner).await.unwrap().is_some());
}

#[tokio::test]
async fn settings_and_counters_are_read() {
    let database = TestDatabase::create().await;
    let (lanes, owner) = pools(&database).await;
    let settings = durability(&lanes).await.unwrap();
    assert_eq!(
        (settings.synchronous_commit.as_str(), settings.version.is_empty()),
        ("on", false)
    );
    assert!(["on", "off"].contains(&settings.fsync.as_str()));
    assert!(wal_fsyncs(&owner).await.unwrap().is_some_and(|count| count >= 0));
    assert!(backend_pid(&owner).await.unwrap() > 0);
    checkpoint(&owner).await.unwrap();
    let nothing = read(&lanes, &"bench".parse().unwrap(), &"bench-noop-3".parse().unwrap())
        .await
        .unwrap();
    assert!(nothing.is_none());
}
