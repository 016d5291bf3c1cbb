//! scratch
use crate::mesh::{Mesh, request};
use serde_json::json;
use std::time::Duration;
#[tokio::test]
async fn scratch_sessions() {
    let (mesh, _process) = Mesh::start().await;
    mesh.world.publish("default", "single", &crate::mesh::talker(crate::world::SLOW, 1));
    let ask = |n: u32, priority: u8| {
        let body = request(json!({"payload": {"n": n}, "session": "s", "priority": priority}));
        async { mesh.accept("single", body, Duration::ZERO).await.unwrap().id }
    };
    ask(0, 5).await;
    mesh.held_models(1).await;
    for n in 1..5 { ask(n, 5).await; }
    mesh.world.let_go(5);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let rows: Vec<(String, String, i32, i64, Option<String>)> = sqlx::query_as("SELECT invocation::text, state, epoch, session_order, node FROM execution.open").fetch_all(&mesh.pool).await.unwrap();
    let ended: Vec<(String, String)> = sqlx::query_as("SELECT invocation::text, outcome FROM execution.ended").fetch_all(&mesh.pool).await.unwrap();
    println!("{rows:#?} {ended:?} held {}", mesh.world.held());
}
