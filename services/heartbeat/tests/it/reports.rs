//! Heartbeats: coalesced, ordered, the same by every way they come.

use mesh_api::heartbeat::HeartbeatReport;
use mesh_testkit::{deliver_twice, wait_until};
use mesh_types::fleet::{ReplicaReport, ReplicaState};

use crate::setup::{Mesh, SOON, heartbeat};

#[tokio::test]
async fn a_thousand_heartbeats_become_one_row_with_the_newest() {
    let mesh = Mesh::start(&["n1", "n2"]).await;
    let mut last = heartbeat("n1", 5, 1_000);
    last.replicas = vec![ReplicaReport {
        replica: "rpl_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
        tenant: "default".parse().unwrap(),
        agent: "sofia".parse().unwrap(),
        version: 3,
        state: ReplicaState::Ready,
        detail: String::new(),
        running: 1,
    }];
    for seq in 1..1_000 {
        mesh.beat(&heartbeat("n1", 5, seq)).await;
    }
    mesh.beat(&last).await;
    wait_until(SOON, || async { mesh.newest("n1").await == Some((5, 1_000)) }).await;
    let seen = mesh.observed("n1").await.unwrap();
    assert!(seen.alive && seen.last_health_at.is_none() && seen.since <= seen.last_seen_at);
    assert_eq!(seen.heartbeat.unwrap(), last);
    let written = || mesh.scalar("SELECT seq FROM heartbeat.node WHERE node = 'n1'");
    wait_until(SOON, || async { written().await == 1_000 }).await;
    assert_eq!(mesh.scalar("SELECT count(*) FROM heartbeat.node").await, 1);
    assert_eq!(mesh.newest("n2").await, None, "a node that was never seen is left out");
}

#[tokio::test]
async fn what_is_late_doubled_or_of_an_earlier_start_changes_nothing() {
    let mesh = Mesh::start(&["n1"]).await;
    let report = async |incarnation: u64, seq: u64| {
        let request = heartbeat("n1", incarnation, seq);
        mesh.call::<HeartbeatReport>(request).await.unwrap().taken
    };
    assert!(report(2, 5).await);
    let twice = deliver_twice((2, 6), |(incarnation, seq)| report(incarnation, seq)).await;
    assert_eq!(twice, (true, false));
    assert!(!report(2, 4).await && !report(1, 99).await);
    let written = async || mesh.scalar("SELECT incarnation * 1000 + seq FROM heartbeat.node").await;
    mesh.beat(&heartbeat("n1", 1, 1_000)).await;
    mesh.beat(&heartbeat("n1", 3, 1)).await;
    wait_until(SOON, || async { mesh.newest("n1").await == Some((3, 1)) }).await;
    mesh.beat(&heartbeat("n1", 2, 7)).await;
    wait_until(SOON, async || written().await == 3_001).await;
    // A process that heard nothing yet knows it from the table, over both ways.
    let other = Mesh::serve(&mesh).await;
    mesh.beat(&heartbeat("n1", 2, 8)).await;
    mesh.beat(&heartbeat("n1", 2, 9)).await;
    for seq in 0..8 {
        assert!(!report(2, 10 + seq).await);
    }
    assert_eq!(written().await, 3_001);
    assert_eq!(mesh.newest("n1").await, Some((3, 1)));
    other.shutdown.cancel();
}

#[tokio::test]
async fn shuffled_and_doubled_between_two_processes_the_newest_of_each_node_wins() {
    let mesh = Mesh::start(&[]).await;
    mesh.serve().await;
    let mut sent: Vec<(u64, u64, u64)> = Vec::new();
    for number in 0..20 {
        for order in 0..30 {
            sent.push((number, order / 10, order % 10));
        }
    }
    sent.extend_from_within(..);
    // A shuffle that is the same in every run.
    sent.sort_by_key(|(number, incarnation, seq)| {
        let mixed = (number * 1_000 + incarnation * 100 + seq).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed.rotate_left(17) % 601
    });
    for (number, incarnation, seq) in &sent {
        mesh.beat(&heartbeat(&format!("n{number}"), *incarnation, *seq)).await;
    }
    let written = "SELECT count(*) FROM heartbeat.node WHERE incarnation = 2 AND seq = 9 AND alive";
    wait_until(SOON, || async { mesh.scalar(written).await == 20 }).await;
    for number in 0..20 {
        assert_eq!(mesh.newest(&format!("n{number}")).await, Some((2, 9)));
    }
}

#[tokio::test]
async fn all_nodes_are_read_by_pages() {
    let mesh = Mesh::start(&[]).await;
    let names: Vec<String> = (0..25).map(|number| format!("n{number:02}")).collect();
    for name in &names {
        mesh.beat(&heartbeat(name, 1, 1)).await;
    }
    let listed = async |limit: u32| {
        let all = mesh.all(limit).await;
        all.iter().map(|node| node.node_id.to_string()).collect::<Vec<_>>()
    };
    wait_until(SOON, || async { listed(500).await == names }).await;
    for limit in [1, 7, 24, 25, 26] {
        assert_eq!(listed(limit).await, names, "{limit} a page");
    }
}

#[tokio::test]
async fn what_was_seen_outlives_the_process() {
    let mesh = Mesh::servers(&["n1"]).await;
    let first = mesh.serve().await;
    mesh.beat(&heartbeat("n1", 1, 1)).await;
    wait_until(SOON, || async {
        mesh.scalar("SELECT seq FROM heartbeat.node").await == 1
    })
    .await;
    let before = mesh.observed("n1").await.unwrap();
    // It writes what waits before it ends.
    mesh.beat(&heartbeat("n1", 1, 2)).await;
    wait_until(SOON, || async { mesh.newest("n1").await == Some((1, 2)) }).await;
    first.shutdown.cancel();
    wait_until(SOON, || async {
        mesh.scalar("SELECT seq FROM heartbeat.node").await == 2
    })
    .await;
    mesh.serve().await;
    let after = mesh.observed("n1").await.unwrap();
    assert_eq!((after.since, after.alive), (before.since, true));
    assert_eq!(after.heartbeat.unwrap().seq, 2);
}
