//! Reports that speak for another node: dropped, counted, noted.

use mesh_api::heartbeat::{HealthReport, HealthReportRequest, HeartbeatReport};
use mesh_api::identity::AuditOutcome;
use mesh_testkit::wait_until;
use mesh_types::{Code, Subject};

use crate::setup::{Mesh, SOON, heartbeat};

#[tokio::test]
async fn a_forged_heartbeat_changes_nothing_and_is_seen_in_the_audit() {
    let mesh = Mesh::start(&["n1", "thief"]).await;
    mesh.beat(&heartbeat("n1", 1, 1)).await;
    wait_until(SOON, || async { mesh.newest("n1").await == Some((1, 1)) }).await;
    let thiefs = Subject::Heartbeat {
        node: "thief".parse().unwrap(),
    };
    for seq in 2..200 {
        mesh.publish(&thiefs, &heartbeat("n1", 9, seq)).await;
    }
    // What cannot be read is dropped as well, and what comes after it counts.
    mesh.bus.publish(&thiefs, "{".into()).await.unwrap();
    mesh.bus.publish(&thiefs, "".into()).await.unwrap();
    mesh.beat(&heartbeat("thief", 1, 1)).await;
    wait_until(SOON, || async { mesh.newest("thief").await == Some((1, 1)) }).await;
    assert_eq!(mesh.newest("n1").await, Some((1, 1)));
    wait_until(SOON, || async { !mesh.notes.lock().unwrap().is_empty() }).await;
    let notes = mesh.notes.lock().unwrap().clone();
    assert!(notes.len() <= 3, "at most one a second: {}", notes.len());
    assert_eq!(
        (notes[0].actor.as_str(), notes[0].subject.as_str()),
        ("node:thief", "n1")
    );
    assert_eq!(
        (notes[0].action.as_str(), notes[0].outcome),
        ("node.heartbeat", AuditOutcome::Refused)
    );
}

#[tokio::test]
async fn a_nodes_credential_reports_for_that_node_only() {
    let mesh = Mesh::start(&["n1", "thief"]).await;
    let forged = mesh
        .call_as::<HeartbeatReport>("node:thief", heartbeat("n1", 1, 1))
        .await;
    assert!(forged.unwrap_err().is(Code::Forbidden));
    let own = mesh.call_as::<HeartbeatReport>("node:n1", heartbeat("n1", 1, 1)).await;
    assert!(own.unwrap().taken);
    let health: HealthReportRequest = serde_json::from_value(serde_json::json!({
        "node_id": "n1", "mode": "private", "hostname": "h", "platform": "Linux", "platform_release": "6",
        "agent_runtimes_version": "1", "cpu_count": 2, "cpu_percent": 1.0, "memory_total_mb": 2,
        "memory_available_mb": 1, "load_average": [0.0, 0.0, 0.0], "uptime_seconds": 1, "reason": "startup",
        "reported_at": "2026-11-21T12:00:00Z",
    }))
    .unwrap();
    let forged = mesh.call_as::<HealthReport>("node:thief", health.clone()).await;
    assert!(forged.unwrap_err().is(Code::Forbidden));
    assert!(mesh.call_as::<HealthReport>("node:n1", health).await.unwrap().taken);
    wait_until(SOON, || async { !mesh.notes.lock().unwrap().is_empty() }).await;
    let mut too_far = heartbeat("n1", 1, 2);
    too_far.seq = u64::MAX;
    let refused = mesh.call::<HeartbeatReport>(too_far).await;
    assert!(refused.unwrap_err().is(Code::InvalidRequest));
}
