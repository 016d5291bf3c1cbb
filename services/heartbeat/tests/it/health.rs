//! Health reports: the newest counts, the last few are kept.

use mesh_api::heartbeat::{HealthReport, HealthReportRequest};
use mesh_testkit::wait_until;
use mesh_types::fleet::{HealthReason, HealthSnapshot};
use mesh_types::{Subject, Timestamp};
use serde_json::json;

use crate::setup::{Mesh, SOON, heartbeat};

fn health(second: i64, reason: HealthReason) -> HealthSnapshot {
    serde_json::from_value(json!({
        "mode": "private", "hostname": "h\u{0}", "platform": "Linux", "platform_release": "6.1", "cpu_count": 2,
        "agent_runtimes_version": "0.1.0", "cpu_percent": 12.5, "memory_total_mb": 2048, "memory_available_mb": 1024,
        "load_average": [0.5, 0.25, 0.125], "uptime_seconds": 60, "reason": reason,
        "reported_at": Timestamp::from_millis(second * 1_000),
    }))
    .unwrap()
}

#[tokio::test]
async fn the_newest_report_counts_and_ten_are_kept() {
    let mesh = Mesh::start(&["n1"]).await;
    let subject = Subject::Health {
        node: "n1".parse().unwrap(),
    };
    let newest = async || mesh.observed("n1").await.and_then(|node| node.health);
    // Before its first heartbeat: known, and not alive.
    let startup = health(1, HealthReason::Startup);
    mesh.publish(&subject, &startup).await;
    wait_until(SOON, async || newest().await == Some(startup.clone())).await;
    assert!(!mesh.observed("n1").await.unwrap().alive);
    let written = async || mesh.scalar("SELECT health_count FROM heartbeat.node").await;
    wait_until(SOON, async || written().await == 1).await;
    mesh.beat(&heartbeat("n1", 1, 1)).await;
    wait_until(SOON, || async { mesh.observed("n1").await.unwrap().alive }).await;
    for second in 2..=14 {
        let report = HealthReportRequest {
            node_id: "n1".parse().unwrap(),
            health: health(second, HealthReason::Periodic),
        };
        // With and without the node in the body, over both ways.
        if second % 2 == 0 {
            mesh.publish(&subject, &report).await;
        } else {
            assert!(mesh.call::<HealthReport>(report).await.unwrap().taken);
        }
        wait_until(SOON, async || written().await == second).await;
    }
    let late = HealthReportRequest {
        node_id: "n1".parse().unwrap(),
        health: health(3, HealthReason::ModeChange),
    };
    mesh.publish(&subject, &late).await;
    assert!(!mesh.call::<HealthReport>(late).await.unwrap().taken);
    let seen = mesh.observed("n1").await.unwrap();
    assert_eq!(seen.health, Some(health(14, HealthReason::Periodic)));
    assert!(seen.last_health_at.unwrap() <= seen.last_seen_at);
    assert_eq!(mesh.scalar("SELECT count(*) FROM heartbeat.health_history").await, 10);
    let oldest = "SELECT extract(epoch FROM min(reported_at))::bigint FROM heartbeat.health_history";
    assert_eq!(mesh.scalar(oldest).await, 5);
}
