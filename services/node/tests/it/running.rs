//! What a node says of itself, and what it makes of its assignment.

use std::time::Duration;

use mesh_api::node::Bell;
use mesh_testkit::wait_until;
use mesh_types::Subject;
use mesh_types::fleet::{Assignment, HealthReason, NodeMode, ReplicaState};
use node::Config;
use serde_json::json;

use crate::support::{Mesh, Running, SOON, pinned};

#[tokio::test]
async fn heartbeats_and_health_say_what_is() {
    let mesh = Mesh::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (mut heard, mut health) = (mesh.heartbeats("kitchen").await, mesh.health("kitchen").await);
    let config = Config {
        slots: 3,
        ..pinned(folder.path(), "kitchen")
    };
    let node = Running::start(config, mesh.door()).await.unwrap();
    let first = heard.next().await;
    assert_eq!((first.seq, first.slots, first.running), (1, 3, 0));
    assert_eq!((first.interval_seconds, first.mode), (0.5, NodeMode::Private));
    let second = heard.next().await;
    assert_eq!((second.seq, second.incarnation), (2, first.incarnation));
    let startup = health.next().await;
    assert_eq!(startup.reason, HealthReason::Startup);
    assert!(startup.memory_total_mb > 0 && startup.cpu_count > 0 && !startup.hostname.is_empty());
    assert_eq!(health.next().await.reason, HealthReason::Periodic);
    node.stop().await;
    let last = heard.until(|heartbeat| heartbeat.draining).await;
    assert!(last.seq > second.seq);
}

#[tokio::test]
async fn a_replica_is_fetched_checked_and_reported_at_once() {
    let mesh = Mesh::start().await;
    let folder = tempfile::tempdir().unwrap();
    let good = mesh.replica(
        1,
        &json!({"runtime": "script", "script": {"command": ["sh", "-c", "true"]}}),
    );
    let bad = mesh.replica(
        2,
        &json!({"runtime": "script", "script": {"command": ["/no/such/program"]}}),
    );
    let mut heard = mesh.heartbeats("kitchen").await;
    let config = Config {
        heartbeat_seconds: 60.0,
        assignment_seconds: 60.0,
        ..pinned(folder.path(), "kitchen")
    };
    let node = Running::start(config, mesh.door()).await.unwrap();
    assert!(heard.next().await.replicas.is_empty());
    mesh.change(|known| {
        known.assignment = Assignment {
            generation: 5,
            epoch: 1,
            replicas: vec![good.clone(), bad.clone()],
            drained: false,
            others_max: None,
        };
    });
    ring(&mesh, "reconciler").await;
    let of = |state: ReplicaState| move |one: &mesh_types::fleet::ReplicaReport| one.state == state;
    let settled = heard
        .until(|heartbeat| heartbeat.replicas.iter().any(of(ReplicaState::Ready)))
        .await;
    assert_eq!(settled.assignment, 5);
    let failed = settled.replicas.iter().find(|one| one.replica == bad.replica).unwrap();
    assert_eq!(failed.state, ReplicaState::Failed);
    assert!(failed.detail.contains("/no/such/program"), "{}", failed.detail);
    mesh.change(|known| {
        known.assignment.generation = 6;
        known.assignment.replicas = vec![good];
        known.assignment.replicas[0].stopping = true;
    });
    ring(&mesh, "reconciler").await;
    let stopping = heard.until(|heartbeat| heartbeat.assignment == 6).await;
    assert_eq!(stopping.replicas.len(), 1);
    assert_eq!(stopping.replicas[0].state, ReplicaState::Stopping);
    node.stop().await;
}

async fn ring(mesh: &Mesh, owner: &str) {
    let bell = Bell {
        owner: owner.into(),
        stops: false,
    };
    let node = "kitchen".parse().unwrap();
    let payload = serde_json::to_vec(&bell).unwrap();
    mesh.bus.publish(&Subject::Bell { node }, payload.into()).await.unwrap();
}

#[tokio::test]
async fn an_artifact_that_is_late_is_waited_for_and_a_wrong_one_is_not_run() {
    let mesh = Mesh::start().await;
    let folder = tempfile::tempdir().unwrap();
    let late = mesh.replica(1, &json!({"runtime": "noop", "noop": {"steps": 1}}));
    let wrong = mesh.replica(2, &json!({"runtime": "noop", "noop": {"steps": 2}}));
    let bytes = {
        let mut known = mesh.known.lock().unwrap();
        known.artifacts.insert(wrong.hash.clone(), "{}".into());
        known.artifacts.remove(&late.hash).unwrap()
    };
    mesh.change(|known| {
        known.assignment.generation = 1;
        known.assignment.replicas = vec![late.clone(), wrong];
    });
    let mut heard = mesh.heartbeats("kitchen").await;
    let node = Running::start(pinned(folder.path(), "kitchen"), mesh.door())
        .await
        .unwrap();
    let waits = heard
        .until(|heartbeat| heartbeat.replicas.iter().all(|one| !one.detail.is_empty()) && heartbeat.assignment == 1)
        .await;
    assert_eq!(waits.replicas[0].state, ReplicaState::Starting);
    assert_eq!(waits.replicas[1].state, ReplicaState::Failed);
    mesh.change(|known| drop(known.artifacts.insert(late.hash.clone(), bytes)));
    let ready = heard
        .until(|heartbeat| heartbeat.replicas.iter().any(|one| one.state == ReplicaState::Ready))
        .await;
    assert_eq!(ready.replicas[0].detail, "");
    node.stop().await;
}

#[tokio::test]
async fn what_is_changed_at_the_mesh_reaches_the_node_at_its_bell_and_never_its_uid() {
    let mesh = Mesh::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (mut heard, mut health) = (mesh.heartbeats("kitchen").await, mesh.health("kitchen").await);
    let config = Config {
        heartbeat_seconds: 60.0,
        health_seconds: 60.0,
        ..pinned(folder.path(), "kitchen")
    };
    let node = Running::start(config, mesh.door()).await.unwrap();
    assert_eq!(heard.next().await.mode, NodeMode::Private);
    assert_eq!(health.next().await.reason, HealthReason::Startup);
    mesh.change(|known| {
        let entry = known.nodes.get_mut(&node.id).unwrap();
        entry.configuration.mode = NodeMode::Sleep;
        entry.configuration.node_uid = Some("cellar".parse().unwrap());
    });
    ring(&mesh, "registry").await;
    heard.until(|heartbeat| heartbeat.mode == NodeMode::Sleep).await;
    let change = health.next().await;
    assert_eq!(
        (change.reason, change.mode),
        (HealthReason::ModeChange, NodeMode::Sleep)
    );
    node.stop().await;
    let stored = crate::support::stored(folder.path());
    assert_eq!(stored["node_uid"], "kitchen");
    assert_eq!(stored["configuration"]["node_uid"], "kitchen");
}

#[tokio::test]
async fn changes_within_a_moment_are_one_heartbeat() {
    let mesh = Mesh::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut heard = mesh.heartbeats("kitchen").await;
    let config = Config {
        heartbeat_seconds: 60.0,
        ..pinned(folder.path(), "kitchen")
    };
    let node = Running::start(config, mesh.door()).await.unwrap();
    let first = heard.next().await;
    for generation in 1..=20 {
        let replica = mesh.replica(generation, &json!({"runtime": "noop", "noop": {"steps": generation}}));
        mesh.change(|known| {
            known.assignment.generation = u64::try_from(generation).unwrap();
            known.assignment.replicas = vec![replica];
        });
        ring(&mesh, "reconciler").await;
    }
    let last = heard.until(|heartbeat| heartbeat.assignment == 20).await;
    assert!(last.seq - first.seq < 20, "{} heartbeats", last.seq - first.seq);
    wait_until(SOON, || async { node.bus.is_connected() }).await;
    node.stop().await;
}

#[tokio::test]
async fn a_heartbeat_may_be_twice_a_second() {
    let mesh = Mesh::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut heard = mesh.heartbeats("kitchen").await;
    let node = Running::start(pinned(folder.path(), "kitchen"), mesh.door())
        .await
        .unwrap();
    let third = heard.until(|heartbeat| heartbeat.seq == 3).await;
    let fifth = heard.until(|heartbeat| heartbeat.seq == 5).await;
    let between = fifth.sent_at.since(third.sent_at);
    assert!(between > Duration::from_millis(900), "{between:?}");
    node.stop().await;
}
