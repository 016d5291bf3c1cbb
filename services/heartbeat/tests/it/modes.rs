//! Modes that nodes report reach the registry: once, whatever is away.

use mesh_testkit::wait_until;
use mesh_types::fleet::NodeMode;

use crate::setup::{Mesh, SOON, heartbeat};

fn told(mesh: &Mesh) -> Vec<(NodeMode, u64)> {
    let registry = mesh.registry.lock().unwrap();
    registry.told.iter().map(|told| (told.mode, told.seq)).collect()
}

fn asked(mesh: &Mesh) -> usize {
    mesh.registry.lock().unwrap().asked
}

#[tokio::test]
async fn a_changed_mode_is_told_once_however_many_heartbeats_and_processes() {
    let mesh = Mesh::start(&["n1"]).await;
    let second = mesh.serve().await;
    let mut beat = heartbeat("n1", 1, 0);
    let mut say = async |mode: NodeMode, count: u64| {
        beat.mode = mode;
        for _ in 0..count {
            beat.seq += 1;
            mesh.beat(&beat).await;
        }
        wait_until(SOON, || async {
            mesh.scalar("SELECT seq FROM heartbeat.node").await == beat.seq as i64
        })
        .await;
    };
    // As it is registered: nothing to tell.
    say(NodeMode::Private, 5).await;
    say(NodeMode::Shared, 50).await;
    wait_until(SOON, || async { told(&mesh).len() == 1 }).await;
    let known = async || {
        mesh.scalar("SELECT count(*) FROM heartbeat.node WHERE told_mode = mode")
            .await
    };
    wait_until(SOON, async || known().await == 1).await;
    say(NodeMode::Shared, 50).await;
    second.shutdown.cancel();
    mesh.serve().await;
    say(NodeMode::Shared, 5).await;
    assert_eq!(told(&mesh).len(), 1, "{:?}", told(&mesh));
    // Two processes may find out in the same moment; a hundred heartbeats are no reason.
    assert!(asked(&mesh) <= 2, "{}", asked(&mesh));
    // While the registry fails it is tried again, and the heartbeats meanwhile add nothing.
    mesh.registry.lock().unwrap().fails = 3;
    say(NodeMode::Sleep, 5).await;
    say(NodeMode::Sleep, 5).await;
    wait_until(SOON, || async { told(&mesh).len() == 2 }).await;
    assert_eq!(told(&mesh)[1].0, NodeMode::Sleep);
    // Somebody configured it otherwise: what the node goes on saying is no change of its own.
    mesh.registry.lock().unwrap().nodes[0].configuration.mode = NodeMode::Private;
    wait_until(SOON, async || known().await == 1).await;
    say(NodeMode::Sleep, 5).await;
    assert_eq!(told(&mesh).len(), 2, "{:?}", told(&mesh));
    assert!(asked(&mesh) <= 4, "{}", asked(&mesh));
}
