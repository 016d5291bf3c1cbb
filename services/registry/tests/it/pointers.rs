//! KV `AGENTS`: shown before the answer, repaired when something was missed.

use bytes::Bytes;
use mesh_api::registry::{AgentDelete, AgentRollback, Pointer, RollbackRequest};
use mesh_bus::Bucket;
use mesh_testkit::wait_until;

use crate::setup::{Mesh, SOON, guarded};

async fn shown(mesh: &Mesh, key: &str) -> Option<Pointer> {
    let value = mesh.bus.kv_get(Bucket::Agents, key).await.unwrap();
    value.map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn a_pointer_is_shown_when_the_publish_is_answered() {
    let mesh = Mesh::start().await;
    mesh.apply("sofia", "one").await;
    assert_eq!(shown(&mesh, "default.sofia").await, None);
    let first = mesh.publish("sofia").await.unwrap();
    let pointer = shown(&mesh, "default.sofia").await.unwrap();
    assert_eq!((pointer.tenant.as_str(), pointer.agent.as_str()), ("default", "sofia"));
    assert_eq!((pointer.version, pointer.hash), (1, first.hash));
    mesh.apply("sofia", "two").await;
    mesh.publish("sofia").await.unwrap();
    assert_eq!(shown(&mesh, "default.sofia").await.unwrap().version, 2);
    mesh.call::<AgentRollback>(RollbackRequest {
        agent: "sofia".parse().unwrap(),
        version: 1,
    })
    .await
    .unwrap();
    assert_eq!(shown(&mesh, "default.sofia").await.unwrap().version, 1);
    mesh.call::<AgentDelete>(guarded("sofia", None)).await.unwrap();
    assert_eq!(shown(&mesh, "default.sofia").await, None);
}

#[tokio::test]
async fn wrong_missing_and_stale_pointers_are_repaired_at_the_start() {
    let mesh = Mesh::start().await;
    for name in ["sofia", "maria"] {
        mesh.apply(name, name).await;
        mesh.publish(name).await.unwrap();
    }
    let wrong = Bytes::from_static(br#"{"tenant":"default","agent":"sofia","version":9,"hash":"00"}"#);
    mesh.bus
        .kv_put(Bucket::Agents, "default.sofia", wrong.clone())
        .await
        .unwrap();
    mesh.bus
        .kv_put(Bucket::Agents, "default.deleted", wrong.clone())
        .await
        .unwrap();
    mesh.bus.kv_put(Bucket::Agents, "no-key-of-ours", wrong).await.unwrap();
    mesh.bus.kv_delete(Bucket::Agents, "default.maria").await.unwrap();
    // A second registry beside the first one: its loop begins with a pass.
    let beside = mesh.context.for_service("registry");
    mesh.serve(&beside, mesh.config()).await;
    wait_until(SOON, || async {
        let mut keys: Vec<_> = mesh
            .bus
            .kv_list(Bucket::Agents)
            .await
            .unwrap()
            .into_iter()
            .map(|e| e.key)
            .collect();
        keys.sort();
        keys == ["default.maria", "default.sofia"]
    })
    .await;
    wait_until(SOON, || async {
        shown(&mesh, "default.sofia")
            .await
            .is_some_and(|pointer| pointer.version == 1)
    })
    .await;
}

#[tokio::test]
async fn pointers_that_were_lost_come_back_with_the_connection() {
    let mesh = Mesh::start().await;
    mesh.apply("sofia", "one").await;
    mesh.publish("sofia").await.unwrap();
    mesh.bus.kv_delete(Bucket::Agents, "default.sofia").await.unwrap();
    mesh.nats.restart().await;
    wait_until(SOON, || async {
        matches!(mesh.bus.kv_get(Bucket::Agents, "default.sofia").await, Ok(Some(_)))
    })
    .await;
}
