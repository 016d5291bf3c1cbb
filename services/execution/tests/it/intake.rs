//! The durable inbox: what JetStream has acknowledged is accepted, in any case.

use mesh_bus::Headers;
use mesh_types::Subject;
use mesh_types::subject::Filter;
use serde_json::{Value, json};

use crate::mesh::{Mesh, SOON};

#[tokio::test]
async fn what_the_stream_acknowledged_is_run_to_its_end() {
    let (mesh, _process) = Mesh::start().await;
    let stored = mesh
        .publish("mesh.invoke.default.noop", r#"{"payload":{"text":"hi"}}"#)
        .await;
    assert_eq!((stored.stream.as_str(), stored.duplicate), ("INVOCATIONS", false));
    let router = json!({"agent_id": "agent:noop", "entrypoint": "channel_message", "payload": {"x": 1}});
    mesh.publish("router.invoke.agent", router.to_string()).await;
    mesh.publish("mesh.invoke.default.noop", "").await;
    mesh.all_ended(3).await;
    assert_eq!(mesh.check().await, 3);
    assert_eq!(
        mesh.count("SELECT count(*) FROM execution.invocation WHERE entrypoint = 'channel_message'")
            .await,
        1
    );
}

#[tokio::test]
async fn what_was_published_before_anybody_ran_is_run() {
    let mesh = Mesh::without().await;
    for _ in 0..20 {
        mesh.publish("mesh.invoke.default.noop", "{}").await;
    }
    let _process = mesh.process("one").await;
    mesh.all_ended(20).await;
    assert_eq!(mesh.check().await, 20);
}

#[tokio::test]
async fn a_result_goes_to_reply_to_and_so_does_an_error() {
    let (mesh, _process) = Mesh::start().await;
    for (agent, subject) in [("noop", "mesh.reply.default.a"), ("stranger", "mesh.reply.default.b")] {
        let mut replies = mesh
            .bus
            .subscribe(&Filter::Only(subject.parse::<Subject>().unwrap()))
            .await
            .unwrap();
        mesh.bus.flush().await.unwrap();
        mesh.publish(
            &format!("mesh.invoke.default.{agent}"),
            json!({"reply_to": subject}).to_string(),
        )
        .await;
        let reply = tokio::time::timeout(SOON, replies.next()).await.unwrap().unwrap();
        let body: Value = serde_json::from_slice(&reply.payload).unwrap();
        if agent == "noop" {
            assert_eq!(body["state"], "completed");
            assert_eq!(body["output"], json!({"steps": 3}));
        } else {
            assert_eq!(body["type"], "registry/agent-not-found");
            assert_eq!(reply.headers.get(Headers::NATS_SERVICE_ERROR_CODE), Some("404"));
        }
    }
}

#[tokio::test]
async fn a_message_for_another_tenant_runs_there() {
    let (mesh, _process) = Mesh::start().await;
    mesh.world.publish("daarion", "noop", &json!({"runtime": "noop"}));
    let body = json!({"agent_id": "agent:noop", "payload": {"microdao_id": "microdao:daarion"}});
    mesh.publish("router.invoke.agent", body.to_string()).await;
    mesh.all_ended(1).await;
    let tenant: String = sqlx::query_scalar("SELECT tenant FROM execution.ended")
        .fetch_one(&mesh.pool)
        .await
        .unwrap();
    assert_eq!(tenant, "daarion");
}

#[tokio::test]
async fn a_burst_is_taken_in_whole() {
    let (mesh, _process) = Mesh::start().await;
    futures::future::join_all((0..300).map(|_| mesh.publish("mesh.invoke.default.noop", "{}"))).await;
    mesh.all_ended(300).await;
    assert_eq!(mesh.check().await, 300);
    assert_eq!(
        mesh.count("SELECT count(*) FROM execution.ended WHERE outcome = 'completed'")
            .await,
        300
    );
}
