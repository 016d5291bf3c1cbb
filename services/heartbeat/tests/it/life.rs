//! Nodes come, fall silent, come back: each told once, whoever looks.

use std::time::Duration;

use mesh_api::heartbeat::Presence;
use mesh_bus::{Bucket, Headers};
use mesh_testkit::wait_until;
use mesh_types::event::{Event, Fact};
use mesh_types::fleet::NodeMode;
use mesh_types::{Id as _, Timestamp};

use crate::setup::{Beating, Mesh, SOON, entry, heartbeat};

async fn presence(mesh: &Mesh, node: &str) -> Option<Presence> {
    let value = mesh.bus.kv_get(Bucket::Presence, node).await.unwrap()?;
    Some(serde_json::from_slice(&value).unwrap())
}

/// Until the node has beaten so often again, once a second: a time that is told by what happens.
async fn beats_on(mesh: &Mesh, node: &str, count: u64) {
    let (_, before) = mesh.newest(node).await.unwrap();
    wait_until(SOON, || async {
        let newest = mesh.newest(node).await;
        newest.is_some_and(|(_, seq)| seq >= before + count)
    })
    .await;
}

#[tokio::test]
async fn a_silent_node_is_lost_once_and_comes_back_once_with_two_processes() {
    let mesh = Mesh::start(&["n1", "n2"]).await;
    mesh.serve().await;
    let told = mesh.told().await;
    let steady = Beating::start(&mesh, "n2", 1);
    let silenced = Beating::start(&mesh, "n1", 1);
    wait_until(SOON, || async { told.lines().len() == 2 }).await;
    assert!(
        presence(&mesh, "n1")
            .await
            .is_some_and(|presence| presence.incarnation == 1)
    );
    drop(silenced);
    wait_until(SOON, || async { told.lines().len() == 3 }).await;
    assert_eq!(told.lines()[2], "lost n1 1");
    let gone = mesh.observed("n1").await.unwrap();
    let silence = gone.since.since(gone.last_seen_at);
    assert!(
        !gone.alive && silence >= Duration::from_secs(3),
        "three of its intervals: {gone:?}"
    );
    assert_eq!(presence(&mesh, "n1").await, None);
    let _back = Beating::start(&mesh, "n1", 2);
    wait_until(SOON, || async { told.lines().len() == 4 }).await;
    assert_eq!(told.lines()[3], "came n1 2");
    assert!(mesh.observed("n1").await.unwrap().alive);
    // Longer than any of them needed: nothing is told again, and who beats is never lost.
    beats_on(&mesh, "n2", 5).await;
    assert_eq!(told.lines().len(), 4, "{:?}", told.lines());
    assert_eq!(mesh.scalar("SELECT count(*) FROM heartbeat.event").await, 4);
    assert!(mesh.observed("n2").await.unwrap().alive);
    drop(steady);
}

#[tokio::test]
async fn presence_says_the_newest_start_and_whether_it_drains() {
    let mesh = Mesh::start(&["n1"]).await;
    let expect = async |incarnation: u64, draining: bool| {
        let wanted = Some(Presence { incarnation, draining });
        wait_until(SOON, || async { presence(&mesh, "n1").await == wanted }).await;
    };
    mesh.beat(&heartbeat("n1", 1, 1)).await;
    expect(1, false).await;
    mesh.beat(&heartbeat("n1", 2, 1)).await;
    expect(2, false).await;
    mesh.beat(&heartbeat("n1", 1, 2)).await;
    let mut draining = heartbeat("n1", 2, 2);
    draining.draining = true;
    mesh.beat(&draining).await;
    expect(2, true).await;
}

#[tokio::test]
async fn nobody_is_lost_because_nats_forgot_all_presence() {
    let mesh = Mesh::start(&["n1", "n2"]).await;
    let told = mesh.told().await;
    let _steady = Beating::start(&mesh, "n1", 1);
    let silenced = Beating::start(&mesh, "n2", 1);
    wait_until(SOON, || async { told.lines().len() == 2 }).await;
    drop(silenced);
    mesh.restart_nats().await;
    wait_until(SOON, || async {
        let key = mesh.bus.kv_get(Bucket::Presence, "n1").await;
        key.is_ok_and(|key| key.is_some())
    })
    .await;
    // Of whoever fell silent meanwhile there is no marker: it is missed all the same, and nobody else is.
    wait_until(SOON, || async { told.lines().len() == 3 }).await;
    assert_eq!(told.lines()[2], "lost n2 1");
    beats_on(&mesh, "n1", 3).await;
    assert_eq!(told.lines().len(), 3, "{:?}", told.lines());
    assert!(mesh.observed("n1").await.unwrap().alive);
}

#[tokio::test]
async fn who_died_while_no_process_ran_is_lost_by_the_next_one() {
    let mesh = Mesh::servers(&["n1"]).await;
    let first = mesh.serve().await;
    let told = mesh.told().await;
    mesh.beat(&heartbeat("n1", 1, 1)).await;
    told.wait_for(&["came n1 1"]).await;
    first.shutdown.cancel();
    wait_until(SOON, || async { presence(&mesh, "n1").await.is_none() }).await;
    mesh.serve().await;
    told.wait_for(&["came n1 1", "lost n1 1"]).await;
}

#[tokio::test]
async fn a_heartbeat_that_waited_through_its_nodes_end_does_not_revive_it() {
    let mesh = Mesh::start(&["n1"]).await;
    let told = mesh.told().await;
    mesh.beat(&heartbeat("n1", 1, 1)).await;
    told.wait_for(&["came n1 1", "lost n1 1"]).await;
    // As another process would write it that received it before.
    let pool = mesh.database.pool().await;
    sqlx::query("UPDATE heartbeat.node SET since = since + interval '1 hour'")
        .execute(&pool)
        .await
        .unwrap();
    mesh.beat(&heartbeat("n1", 1, 2)).await;
    wait_until(SOON, || async {
        mesh.scalar("SELECT seq FROM heartbeat.node").await == 2
    })
    .await;
    assert_eq!(mesh.scalar("SELECT count(*) FROM heartbeat.node WHERE alive").await, 0);
    assert_eq!(told.lines().len(), 2);
}

#[tokio::test]
async fn a_node_is_told_of_once_the_registry_knows_it_and_forgotten_with_it() {
    let mesh = Mesh::start(&[]).await;
    let told = mesh.told().await;
    mesh.beat(&heartbeat("late", 1, 1)).await;
    wait_until(SOON, || async {
        mesh.scalar("SELECT count(*) FROM heartbeat.node").await == 1
    })
    .await;
    assert_eq!(told.lines(), Vec::<String>::new());
    let node = "late".parse::<mesh_types::NodeId>().unwrap();
    let publish = async |fact: Fact| {
        let event = Event {
            request_id: None,
            change: None,
            id: mesh_types::EventId::new(Timestamp::from_millis(1), number_of(&fact)),
            tenant: "default".parse().unwrap(),
            at: Timestamp::EPOCH,
            actor: "service:heartbeat".into(),
            fact,
        };
        let body = serde_json::to_vec(&event).unwrap();
        let id = event.id.to_string();
        let subject = event.subject();
        let stored = mesh.bus.publish_durable(&subject, &id, Headers::default(), body.into());
        stored.await.unwrap();
    };
    mesh.registry.lock().unwrap().nodes.push(entry("late"));
    let (owner, mode) = ("ann".to_owned(), NodeMode::Private);
    publish(Fact::NodeRegistered {
        node: node.clone(),
        owner: owner.clone(),
        mode,
    })
    .await;
    wait_until(SOON, || async { told.lines().iter().any(|line| line == "came late 1") }).await;
    mesh.registry.lock().unwrap().nodes.clear();
    publish(Fact::NodeForgotten { node, owner, mode }).await;
    wait_until(SOON, || async { mesh.observed("late").await.is_none() }).await;
    assert_eq!(mesh.scalar("SELECT count(*) FROM heartbeat.node").await, 0);
    wait_until(SOON, || async { presence(&mesh, "late").await.is_none() }).await;
}

/// Some number of its own for each fact.
fn number_of(fact: &Fact) -> u128 {
    serde_json::to_string(fact).unwrap().len() as u128
}
