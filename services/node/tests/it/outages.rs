//! A mesh that is not there, or comes back: a node that is known waits for it and says at once that it is there.

use mesh_api::fleet::NodeConfiguration;
use mesh_testkit::{TestNats, wait_until};
use mesh_types::fleet::NodeMode;
use node::{Config, JoinError};

use crate::support::{Mesh, Running, SOON, config, pinned, stored};

#[tokio::test]
async fn after_a_reconnect_it_is_said_at_once_that_the_node_is_there() {
    let mesh = Mesh::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut heard = mesh.heartbeats("kitchen").await;
    let config = Config {
        heartbeat_seconds: 600.0,
        ..pinned(folder.path(), "kitchen")
    };
    let node = Running::start(config, mesh.door()).await.unwrap();
    let first = heard.next().await;
    mesh.nats.kill().await;
    wait_until(SOON, || async { !node.bus.is_connected() }).await;
    mesh.nats.restart().await;
    let again = heard.until(|heartbeat| heartbeat.seq > first.seq).await;
    assert_eq!(again.incarnation, first.incarnation);
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_is_known_starts_without_its_mesh_and_finds_it() {
    let mut mesh = Mesh::start().await;
    let folder = tempfile::tempdir().unwrap();
    let first = Running::start(pinned(folder.path(), "kitchen"), mesh.door())
        .await
        .unwrap();
    first.stop().await;
    mesh.service = None;
    mesh.nats.stop().await;
    let node = Running::start(config(folder.path()), mesh.door()).await.unwrap();
    assert!(!node.bus.is_connected());
    mesh.nats.restart().await;
    assert!(mesh.bus.wait_connected(SOON).await);
    mesh.change(|known| known.nodes.clear());
    mesh.serve().await;
    wait_until(SOON, || async {
        mesh.known.lock().unwrap().nodes.contains_key(&node.id)
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn a_pinned_node_needs_nobody_to_name_it() {
    let mut mesh = Mesh::start().await;
    mesh.service = None;
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        mode: Some(NodeMode::Shared),
        ..pinned(folder.path(), "kitchen")
    };
    let mut heard = mesh.heartbeats("kitchen").await;
    let node = Running::start(config, mesh.door()).await.unwrap();
    assert_eq!(heard.next().await.mode, NodeMode::Shared);
    assert_eq!(stored(folder.path())["is_reported"], false);
    mesh.serve().await;
    wait_until(SOON, || async { stored(folder.path())["is_reported"] == true }).await;
    assert_eq!(mesh.entry(&node.id).configuration.mode, NodeMode::Shared);
    node.stop().await;
}

#[tokio::test]
async fn what_was_configured_without_the_mesh_is_told_when_it_is_back() {
    let mesh = Mesh::start().await;
    let folder = tempfile::tempdir().unwrap();
    let first = Running::start(pinned(folder.path(), "kitchen"), mesh.door())
        .await
        .unwrap();
    let id = first.id.clone();
    first.stop().await;
    let mut kept = stored(folder.path());
    kept["configuration"] = serde_json::to_value(NodeConfiguration {
        mode: NodeMode::Sleep,
        billable_account_handle: Some("ann".into()),
        ..NodeConfiguration::default()
    })
    .unwrap();
    kept["is_reported"] = false.into();
    std::fs::write(folder.path().join("node.json"), kept.to_string()).unwrap();
    let node = Running::start(config(folder.path()), mesh.door()).await.unwrap();
    wait_until(SOON, || async { stored(folder.path())["is_reported"] == true }).await;
    let configuration = mesh.entry(&id).configuration;
    assert_eq!(configuration.mode, NodeMode::Sleep);
    assert_eq!(configuration.billable_account_handle.as_deref(), Some("ann"));
    assert_eq!(configuration.node_uid, Some(id));
    node.stop().await;
}

#[tokio::test]
async fn an_address_that_is_none_is_told_at_once() {
    let nats = TestNats::start().await;
    let folder = tempfile::tempdir().unwrap();
    let door = node::Door {
        url: nats.url().replace("nats://", "mesh://"),
        token: None,
        tenant: None,
    };
    let refused = Running::start(config(folder.path()), door).await;
    assert!(matches!(refused, Err(JoinError::Address { .. })));
}
