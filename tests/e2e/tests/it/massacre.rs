//! The mesh, its servers or one of them go down in the middle of many invocations: each ends exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use sqlx::{Connection, PgPool};

use crate::harness::{Mesh, Script, kill_9, unique, until};

const INVOCATIONS: usize = 200;
/// So many replies are out when the kill comes; with 16 at once, more are on their way.
const KILLED_AFTER: usize = 60;

const ENDED: &str =
    "SELECT count(*) FROM execution.ended e JOIN execution.invocation i ON i.id = e.invocation WHERE i.agent = 'sofia'";

/// What happens in the middle of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    /// SIGKILL for the mesh and its servers, then another start.
    KillEverything,
    /// `mesh down`, then another start.
    Stop,
    /// SIGKILL for one server below the running mesh, which starts it again.
    KillServer(&'static str),
}

#[tokio::test]
async fn a_kill_of_everything_in_the_middle_of_200_invocations_ends_each_exactly_once() {
    in_the_middle(Blow::KillEverything).await;
}

#[tokio::test]
async fn a_stop_in_the_middle_of_200_invocations_ends_each_exactly_once() {
    in_the_middle(Blow::Stop).await;
}

#[tokio::test]
async fn a_kill_of_postgres_in_the_middle_of_200_invocations_ends_each_exactly_once() {
    in_the_middle(Blow::KillServer("postgres")).await;
}

#[tokio::test]
async fn a_kill_of_nats_in_the_middle_of_200_invocations_ends_each_exactly_once() {
    in_the_middle(Blow::KillServer("nats-server")).await;
}

async fn in_the_middle(blow: Blow) {
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
    let before = strike(&mesh, blow, &run).await;
    assert!(before < INVOCATIONS, "{blow:?} came too late: {before} calls");
    let database = mesh.state().database;
    until(120, "each accepted invocation has ended", || async {
        // A connection of its own each time: the server may just be starting.
        let mut connection = sqlx::PgConnection::connect(&database).await.ok()?;
        let ended: i64 = sqlx::query_scalar(ENDED).fetch_one(&mut connection).await.ok()?;
        (ended >= INVOCATIONS as i64).then_some(())
    })
    .await;
    let pool = mesh.database().await;
    check_rows(&pool).await;
    check_calls(&mesh, &pool, &run, before).await;
    check_messages(&pool, &run, blow).await;
}

/// Answers how often the model had been asked when it was over.
async fn strike(mesh: &Mesh, blow: Blow, run: &str) -> usize {
    match blow {
        Blow::KillEverything => mesh.kill_9(),
        Blow::Stop => {
            let down = mesh.cli(&["down"]).await;
            assert_eq!(down.code, Some(0), "{down:?}");
            mesh.until_dead().await;
        }
        Blow::KillServer(program) => {
            let before = mesh.model.calls(run).len();
            match mesh.launch.server(program) {
                Some(pid) => kill_9(pid),
                None => {
                    println!("not killed: this system does not tell the environment of a process")
                }
            }
            return before;
        }
    }
    let before = mesh.model.calls(run).len();
    mesh.start(&[]).await;
    before
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
    let states: Vec<(String, i64)> = sqlx::query_as("SELECT outcome, count(*) FROM execution.ended GROUP BY outcome")
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
    assert!(most <= Some(&2), "a model step ran {most:?} times over one kill");
    let recorded: Vec<String> = sqlx::query_scalar(
        "SELECT i.key FROM execution.record r JOIN execution.invocation i ON i.id = r.invocation \
         WHERE r.kind = 'done' AND r.step = 3 AND r.epoch = 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let later: BTreeSet<&str> = calls[before..].iter().map(|call| call.said.as_str()).collect();
    let crossed: Vec<String> = open_at_the_kill(pool).await;
    println!("{} calls, {} invocations crossed the kill", calls.len(), crossed.len());
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

async fn check_messages(pool: &PgPool, run: &str, blow: Blow) {
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
    let memories: i64 = sqlx::query_scalar("SELECT count(*) FROM memory.memory WHERE position($1 IN content) > 0")
        .bind(run)
        .fetch_one(pool)
        .await
        .unwrap();
    // While the store is away for longer than a write-back waits, the reply goes out without it.
    let may_lack = matches!(blow, Blow::KillServer(_));
    assert!(memories <= INVOCATIONS as i64, "{memories} memories of {INVOCATIONS}");
    assert!(
        may_lack || memories == INVOCATIONS as i64,
        "one memory of each: {memories}"
    );
}
