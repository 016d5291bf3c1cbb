//! SIGKILL for the mesh, its nats-server and its Postgres at once, in the middle of many invocations.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use sqlx::PgPool;

use crate::harness::{Mesh, Script, unique, until};

const INVOCATIONS: usize = 200;
/// So many replies are out when the kill comes; with 16 at once, more are on their way.
const KILLED_AFTER: usize = 60;

const ENDED: &str = "SELECT count(*) FROM execution.ended e JOIN execution.invocation i ON i.id = e.invocation WHERE i.agent = 'sofia'";

#[tokio::test]
async fn a_kill_of_everything_in_the_middle_of_200_invocations_ends_each_exactly_once() {
    let mesh = Mesh::up().await;
    let run = unique("run");
    mesh.model.script(Script {
        of: run.clone(),
        delay: Duration::from_millis(60),
        fails: None,
    });
    publish(&mesh, &run).await;
    until(60, "the work is half done", || async {
        (mesh.model.calls(&run).len() > KILLED_AFTER).then_some(())
    })
    .await;
    mesh.kill_9();
    let before = mesh.model.calls(&run).len();
    assert!(
        before < INVOCATIONS,
        "the kill came too late: {before} calls"
    );
    mesh.start(&[]).await;
    let pool = mesh.database().await;
    until(120, "each accepted invocation has ended", || async {
        let ended: i64 = sqlx::query_scalar(ENDED).fetch_one(&pool).await.ok()?;
        (ended >= INVOCATIONS as i64).then_some(())
    })
    .await;
    check_rows(&pool).await;
    check_calls(&mesh, &pool, &run, before).await;
    check_messages(&pool, &run).await;
}

/// Every one is acknowledged by the stream before anything is killed.
async fn publish(mesh: &Mesh, run: &str) {
    let client = mesh.nats().await;
    let acks = (0..INVOCATIONS).map(|number| {
        let body = json!({"idempotency_key": format!("{run}-{number}"),
            "payload": {"channel_id": format!("{run}-{number}"), "text": format!("{run}-{number}.")}});
        client.request("mesh.invoke.default.sofia", body.to_string().into())
    });
    for ack in join_all(acks).await {
        let ack = ack.expect("a PubAck");
        assert!(ack.payload.starts_with(b"{\"stream\""), "{ack:?}");
    }
}

async fn check_rows(pool: &PgPool) {
    let states: Vec<(String, i64)> =
        sqlx::query_as("SELECT outcome, count(*) FROM execution.ended GROUP BY outcome")
            .fetch_all(pool)
            .await
            .unwrap();
    assert_eq!(states, [("completed".to_owned(), INVOCATIONS as i64)]);
    // One `accepted`, one `ended` as the last, no gap, no step done twice.
    let broken: Vec<(String,)> = sqlx::query_as(
        "SELECT invocation::text FROM execution.record GROUP BY invocation \
         HAVING max(seq) <> count(*) OR min(seq) <> 1 \
             OR count(*) FILTER (WHERE kind = 'accepted') <> 1 OR count(*) FILTER (WHERE kind = 'ended') <> 1 \
             OR max(seq) FILTER (WHERE kind = 'ended') <> max(seq) \
             OR count(*) FILTER (WHERE kind = 'done') <> 5 \
             OR count(DISTINCT step) FILTER (WHERE kind = 'done') <> 5",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(broken.is_empty(), "journals that are not whole: {broken:?}");
    let accepted: i64 = sqlx::query_scalar("SELECT count(*) FROM execution.invocation")
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(accepted, INVOCATIONS as i64);
}

/// A model step that was recorded before the kill was not asked for again; every repeat carries the same key.
async fn check_calls(mesh: &Mesh, pool: &PgPool, run: &str, before: usize) {
    let calls = mesh.model.calls(run);
    let mut by_text: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for call in &calls {
        by_text.entry(&call.said).or_default().insert(&call.key);
        *times.entry(&call.said).or_default() += 1;
    }
    assert_eq!(times.len(), INVOCATIONS);
    assert!(by_text.values().all(|keys| keys.len() == 1), "{by_text:?}");
    let most = times.values().max();
    assert!(
        most <= Some(&2),
        "a model step ran {most:?} times over one kill"
    );
    let recorded: Vec<String> = sqlx::query_scalar(
        "SELECT i.key FROM execution.record r JOIN execution.invocation i ON i.id = r.invocation \
         WHERE r.kind = 'done' AND r.step = 3 AND r.epoch = 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let later: BTreeSet<&str> = calls[before..]
        .iter()
        .map(|call| call.said.as_str())
        .collect();
    let crossed: Vec<String> = open_at_the_kill(pool).await;
    println!(
        "{} calls, {} invocations crossed the kill",
        calls.len(),
        crossed.len()
    );
    for key in recorded.iter().filter(|key| crossed.contains(key)) {
        let said = format!("{key}.");
        assert!(
            !later.contains(said.as_str()),
            "{key}: its model step was recorded before the kill"
        );
    }
}

/// Keys of invocations that were claimed before the kill and again after it.
async fn open_at_the_kill(pool: &PgPool) -> Vec<String> {
    let keys = sqlx::query_scalar(
        "SELECT i.key FROM execution.ended e JOIN execution.invocation i ON i.id = e.invocation WHERE e.epoch > 1",
    );
    keys.fetch_all(pool).await.unwrap()
}

async fn check_messages(pool: &PgPool, run: &str) {
    let counts: (i64, i64) = sqlx::query_as(
        "SELECT count(*), count(DISTINCT channel) FROM messaging.message \
         WHERE author_kind = 'agent' AND starts_with(channel, $1)",
    )
    .bind(run)
    .fetch_one(pool)
    .await
    .unwrap();
    assert_eq!(
        counts,
        (INVOCATIONS as i64, INVOCATIONS as i64),
        "one reply in each channel"
    );
    let memories: i64 =
        sqlx::query_scalar("SELECT count(*) FROM memory.memory WHERE position($1 IN content) > 0")
            .bind(run)
            .fetch_one(pool)
            .await
            .unwrap();
    assert_eq!(memories, INVOCATIONS as i64, "one memory of each");
}
