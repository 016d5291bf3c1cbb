//! Servers that go away.

use std::time::Duration;

use mesh_testkit::wait_until;

use crate::setup::{Beating, Mesh, SOON, heartbeat};

#[tokio::test]
async fn what_is_said_while_the_database_refuses_is_written_afterwards() {
    let mesh = Mesh::start(&["n1"]).await;
    mesh.beat(&heartbeat("n1", 1, 1)).await;
    let written = async || mesh.scalar("SELECT seq FROM heartbeat.node").await;
    wait_until(SOON, || async {
        mesh.scalar("SELECT count(*) FROM heartbeat.node").await == 1
    })
    .await;
    let pool = mesh.database.pool().await;
    let run = async |statement: &'static str| {
        sqlx::raw_sql(statement).execute(&pool).await.unwrap();
    };
    run("REVOKE UPDATE ON heartbeat.node FROM mesh_heartbeat").await;
    for seq in 2..=50 {
        mesh.beat(&heartbeat("n1", 1, seq)).await;
    }
    // Answers are newer than the table.
    wait_until(SOON, || async { mesh.newest("n1").await == Some((1, 50)) }).await;
    assert_eq!(written().await, 1);
    run("GRANT UPDATE ON heartbeat.node TO mesh_heartbeat").await;
    wait_until(SOON, async || written().await == 50).await;
}

#[tokio::test]
async fn an_event_that_could_not_go_out_is_told_when_nats_is_back() {
    let mesh = Mesh::start(&["n1"]).await;
    let told = mesh.told().await;
    let beating = Beating::start(&mesh, "n1", 1);
    told.wait_for(&["came n1 1"]).await;
    drop(beating);
    // It is lost by the table while nobody can be told.
    mesh.nats.stop().await;
    let pool = mesh.database.pool().await;
    sqlx::query("UPDATE heartbeat.event SET published_at = NULL")
        .execute(&pool)
        .await
        .unwrap();
    let waiting = async || {
        let count = "SELECT count(*) FROM heartbeat.event WHERE published_at IS NULL";
        mesh.scalar(count).await
    };
    mesh.restart_nats().await;
    wait_until(Duration::from_secs(45), async || {
        mesh.scalar("SELECT count(*) FROM heartbeat.event").await == 2 && waiting().await == 0
    })
    .await;
    // The first one is known by its id and not stored twice.
    assert_eq!(told.lines().last().unwrap(), "lost n1 1");
}

#[tokio::test]
async fn a_process_that_is_told_to_stop_ends() {
    let mesh = Mesh::servers(&[]).await;
    let context = mesh.serve().await;
    context.shutdown.cancel();
    let drained = context.tasks.drain(SOON).await;
    assert_eq!(drained, mesh_runtime::tasks::Drained::Clean);
}
