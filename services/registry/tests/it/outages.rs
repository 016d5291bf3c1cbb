//! Any order of starts, and servers that go away.

use std::time::Duration;

use mesh_api::registry::{AgentGet, AgentRequest};
use mesh_testkit::wait_until;

use crate::setup::{Mesh, SOON};

#[tokio::test]
async fn a_registry_outlives_a_restart_of_nats() {
    let mesh = Mesh::start().await;
    mesh.create("sofia").await;
    mesh.nats.restart().await;
    let get = || {
        mesh.call::<AgentGet>(AgentRequest {
            agent: "sofia".parse().unwrap(),
        })
    };
    wait_until(SOON, || async { get().await.is_ok() }).await;
    mesh.apply("sofia", "two").await;
    mesh.publish("sofia").await.unwrap();
}

#[tokio::test]
async fn what_was_committed_while_nats_was_away_is_told_later() {
    let mesh = Mesh::start().await;
    mesh.create("sofia").await;
    let admin = mesh.database.pool().await;
    let waiting = || async {
        let count = "SELECT count(*) FROM registry.event WHERE published_at IS NULL";
        sqlx::query_scalar::<_, i64>(count).fetch_one(&admin).await.unwrap()
    };
    wait_until(SOON, || async { waiting().await == 0 }).await;
    mesh.nats.stop().await;
    // Committed by a registry that died before it could tell.
    sqlx::query("UPDATE registry.event SET published_at = NULL")
        .execute(&admin)
        .await
        .unwrap();
    assert_eq!(waiting().await, 2);
    mesh.nats.restart().await;
    wait_until(Duration::from_secs(45), || async { waiting().await == 0 }).await;
}

#[tokio::test]
async fn a_registry_that_is_told_to_stop_ends() {
    let mesh = Mesh::servers().await;
    let context = mesh.context.for_service("registry");
    let running = registry::run(mesh.config(), context.clone());
    context.shutdown.cancel();
    tokio::time::timeout(SOON, running).await.unwrap().unwrap();
    // And again from the middle of its work.
    let context = mesh.context.for_service("registry");
    mesh.serve(&context, mesh.config()).await;
    context.shutdown.cancel();
    let drained = context.tasks.drain(SOON).await;
    assert_eq!(drained, mesh_runtime::tasks::Drained::Clean);
}
