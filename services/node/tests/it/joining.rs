//! How a node gets in, who it is then, and who it stays.

use mesh_types::NodeId;
use mesh_types::fleet::NodeMode;
use node::{Config, JoinError};

use crate::support::{Mesh, Running, SECRET, TOKEN, config, pinned, stored};

#[tokio::test]
async fn a_node_gets_its_id_at_the_first_join_and_keeps_it() {
    let mesh = Mesh::start().await;
    let folder = tempfile::tempdir().unwrap();
    let first = Running::start(config(folder.path()), mesh.door()).await.unwrap();
    let id = first.id.clone();
    assert!(id.as_str().starts_with("nod_"), "{id}");
    let incarnation = stored(folder.path())["incarnation"].as_u64().unwrap();
    let second = Running::start(config(folder.path()), mesh.door()).await;
    assert!(matches!(second, Err(JoinError::State(_))), "one process is the node");
    first.stop().await;
    let again = Running::start(config(folder.path()), mesh.door()).await.unwrap();
    assert_eq!(again.id, id);
    again.stop().await;
    assert!(stored(folder.path())["incarnation"].as_u64().unwrap() > incarnation);
    assert_eq!(mesh.known.lock().unwrap().nodes.len(), 1);
}

#[tokio::test]
async fn a_pinned_id_is_taken_as_it_is() {
    let mesh = Mesh::start().await;
    let folder = tempfile::tempdir().unwrap();
    let node = Running::start(pinned(folder.path(), "Kitchen-1"), mesh.door())
        .await
        .unwrap();
    assert_eq!(node.id.as_str(), "Kitchen-1");
    node.stop().await;
    let other = Running::start(pinned(folder.path(), "cellar"), mesh.door()).await;
    let error = other.err().expect("the folder is another node's");
    assert!(
        error.to_string().contains("Kitchen-1") && !error.next().is_empty(),
        "{error}"
    );
    let unpinned = Running::start(config(folder.path()), mesh.door()).await.unwrap();
    assert_eq!(unpinned.id.as_str(), "Kitchen-1");
    unpinned.stop().await;
}

#[tokio::test]
async fn the_mode_of_the_environment_counts_before_anything_is_kept_and_never_again() {
    let mesh = Mesh::start().await;
    let folder = tempfile::tempdir().unwrap();
    let with = |mode| Config {
        mode: Some(mode),
        ..pinned(folder.path(), "kitchen")
    };
    let mut heard = mesh.heartbeats("kitchen").await;
    let first = Running::start(with(NodeMode::Shared), mesh.door()).await.unwrap();
    assert_eq!(heard.next().await.mode, NodeMode::Shared);
    assert_eq!(mesh.entry(&first.id).configuration.mode, NodeMode::Shared);
    first.stop().await;
    let mut heard = mesh.heartbeats("kitchen").await;
    let again = Running::start(with(NodeMode::Sleep), mesh.door()).await.unwrap();
    assert_eq!(heard.next().await.mode, NodeMode::Shared);
    again.stop().await;
    assert_eq!(stored(folder.path())["configuration"]["mode"], "shared");
}

#[tokio::test]
async fn what_the_mesh_knows_of_a_node_that_lost_its_state_counts() {
    let mesh = Mesh::start().await;
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = Config {
        mode: Some(NodeMode::Sleep),
        ..pinned(first.path(), "kitchen")
    };
    Running::start(config, mesh.door()).await.unwrap().stop().await;
    let mut heard = mesh.heartbeats("kitchen").await;
    let node = Running::start(pinned(second.path(), "kitchen"), mesh.door())
        .await
        .unwrap();
    assert_eq!(heard.next().await.mode, NodeMode::Sleep);
    node.stop().await;
}

#[tokio::test]
async fn a_token_opens_once_and_the_secret_ever_after() {
    let mesh = Mesh::with_credentials().await;
    let folder = tempfile::tempdir().unwrap();
    let mut heard = mesh.heartbeats("kitchen").await;
    let door = mesh.door_with(TOKEN);
    let first = Running::start(pinned(folder.path(), "kitchen"), door).await.unwrap();
    assert_eq!(
        heard.next().await.node_id.as_str(),
        "kitchen",
        "its own user may say it"
    );
    first.stop().await;
    assert_eq!(stored(folder.path())["secret"], SECRET);
    let again = Running::start(config(folder.path()), mesh.door()).await.unwrap();
    assert_eq!(again.id.as_str(), "kitchen");
    heard.next().await;
    again.stop().await;
}

#[tokio::test]
async fn a_refused_secret_falls_back_to_the_token() {
    let mesh = Mesh::with_credentials().await;
    let folder = tempfile::tempdir().unwrap();
    let lost = serde_json::json!({"node_uid": "kitchen", "secret": "mns_revoked"});
    std::fs::write(folder.path().join("node.json"), lost.to_string()).unwrap();
    let refused = Running::start(config(folder.path()), mesh.door()).await;
    let error = refused.err().expect("it cannot get in");
    assert!(matches!(error, JoinError::Refused { .. }), "{error}");
    assert!(error.next().contains("mesh tokens create"), "{}", error.next());
    let node = Running::start(config(folder.path()), mesh.door_with(TOKEN))
        .await
        .unwrap();
    node.stop().await;
    assert_eq!(stored(folder.path())["secret"], SECRET);
}

#[tokio::test]
async fn without_a_credential_that_is_one_nobody_gets_in_and_is_told_what_to_do() {
    let mesh = Mesh::with_credentials().await;
    let folder = tempfile::tempdir().unwrap();
    let none = Running::start(config(folder.path()), mesh.door()).await;
    assert!(matches!(none, Err(JoinError::NoCredential { .. })));
    let strange = Running::start(config(folder.path()), mesh.door_with("hunter2")).await;
    assert!(matches!(strange, Err(JoinError::Token)));
    let foreign = TOKEN.replace("secret", "guessed");
    let foreign = Running::start(config(folder.path()), mesh.door_with(&foreign)).await;
    assert!(matches!(foreign, Err(JoinError::Refused { .. })));
    assert!(stored(folder.path())["node_uid"].is_null());
}

#[tokio::test]
async fn where_none_is_demanded_a_token_does_not_matter() {
    let mesh = Mesh::start().await;
    let folder = tempfile::tempdir().unwrap();
    let node = Running::start(config(folder.path()), mesh.door_with("hunter2"))
        .await
        .unwrap();
    let known: NodeId = node.id.clone();
    node.stop().await;
    assert_eq!(mesh.entry(&known).owner, "ann");
}
