//! Servers that go away, and the end.

use mesh_runtime::tasks::Drained;
use mesh_testkit::wait_until;
use serde_json::json;

use crate::setup::{Mesh, SOON};

#[tokio::test]
async fn messaging_outlives_a_restart_of_nats_and_of_its_connections() {
    let mesh = Mesh::start().await;
    mesh.post("one", json!({"id": "1"})).await.unwrap();
    mesh.nats.restart().await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE application_name = 'mesh-messaging' AND datname = current_database()";
    let killed = sqlx::query(kill).execute(&mesh.database.pool().await).await.unwrap();
    assert!(killed.rows_affected() > 0);
    // The same bytes until there is an answer: posted once all the same.
    wait_until(SOON, || async { mesh.post("two", json!({"id": "2"})).await.is_ok() }).await;
    assert_eq!(mesh.texts().await, ["one", "two"]);
}

#[tokio::test]
async fn a_service_that_is_told_to_stop_ends() {
    let mesh = Mesh::start().await;
    mesh.context.shutdown.cancel();
    assert_eq!(mesh.context.tasks.drain(SOON).await, Drained::Clean);
}
