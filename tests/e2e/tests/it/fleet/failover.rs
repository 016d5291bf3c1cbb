//! A node dies or freezes: its replicas run elsewhere, and its invocations go on, within ten seconds.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::ground::Ground;
use crate::harness::until;

const AGENTS: usize = 20;
const REPLICAS: usize = 2;
const RECOVERY: Duration = Duration::from_secs(10);

/// Long enough for two at once to need two replicas.
const SHORT: &str = "sleep 0.3; echo '{}'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replicas_and_invocations_of_a_killed_node_go_on_elsewhere_within_10_s() {
    let ground = Ground::up().await;
    let mut nodes = Vec::new();
    for prefix in ["one", "two", "three"] {
        nodes.push(ground.node(prefix, 32).await);
    }
    // A node that the reconciler still waits for would get nothing that it could lose.
    let everywhere = ground.agent(3, SHORT, "idempotent", "").await;
    ground.all_answer(&[everywhere], 3).await;
    let mut agents = Vec::new();
    for _ in 0..AGENTS {
        agents.push(ground.agent(2, SHORT, "idempotent", "").await);
    }
    let before = ground.all_answer(&agents, REPLICAS).await;
    // Something runs on the victim when it dies.
    let long = ground.agent(1, "sleep 4; echo '{}'", "idempotent", "").await;
    let held = ground.invoke(&long).await;
    let victim = until(30, "a node holds it", || async { ground.holders(&held).await.pop() }).await;
    let place = nodes.iter().position(|node| node.id == victim).expect("one of ours");
    assert!(
        before.values().any(|on| on.contains(&victim)),
        "it has replicas to lose"
    );
    nodes[place].kill_9();
    let killed = Instant::now();
    until(30, "its invocation is claimed elsewhere", || async {
        ground
            .holders(&held)
            .await
            .last()
            .filter(|last| **last != victim)
            .map(drop)
    })
    .await;
    assert!(
        killed.elapsed() < RECOVERY,
        "{:?} until its invocation went on",
        killed.elapsed()
    );
    until(30, "its replicas are assigned elsewhere", || async {
        ground.replicas_on(&victim).await.is_empty().then_some(())
    })
    .await;
    assert!(
        killed.elapsed() < RECOVERY,
        "{:?} until its replicas moved",
        killed.elapsed()
    );
    let after = ground.all_answer(&agents, REPLICAS).await;
    assert!(after.values().all(|on| !on.contains(&victim)), "{after:?}");
    ground.completed(&held).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_node_overwrites_nothing_when_it_wakes_and_stops_what_it_no_longer_owns() {
    let ground = Ground::up().await;
    let mut nodes = vec![ground.node("one", 8).await];
    let ledger = ground.file("ledger").display().to_string();
    let writes = format!("echo ran >> {ledger}; sleep 6; echo '{{}}'");
    let repeated = ground.agent(1, &writes, "idempotent", "").await;
    let id = ground.invoke(&repeated).await;
    until(30, "it runs", || async {
        (ground.lines("ledger").len() == 1).then_some(())
    })
    .await;
    let frozen = nodes[0].id.clone();
    nodes[0].signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    nodes.push(ground.node("two", 8).await);
    until(30, "another node runs it", || async {
        ground
            .holders(&id)
            .await
            .last()
            .filter(|last| **last != frozen)
            .map(drop)
    })
    .await;
    println!("went on after {:?}", stopped.elapsed());
    until(30, "it is worked on again", || async {
        (ground.lines("ledger").len() == 2).then_some(())
    })
    .await;
    nodes[0].signal(Signal::SIGCONT);
    let ended = ground.completed(&id).await;
    assert_eq!(ground.holders(&id).await.len(), 2, "one loss, one claim: {ended}");
    let done = ground.records(&id, "done").await;
    assert_eq!(done.len(), 1, "the frozen one overwrote nothing: {done:?}");
    ground.until_status(&frozen, "online", 20).await;
    until(30, "it runs nothing that is not its own", || async {
        let node = ground.http.get(&format!("/api/v1/nodes/{frozen}")).await;
        (node["running"] == 0).then_some(())
    })
    .await;
}
