//! Small fleets: what a plan does, and the reasons that it gives.

mod rules;
mod versions;

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_api::execution::AgentDemand;
use mesh_api::reconciler::ActionKind;
use mesh_types::agent::{Autoscaling, Spread};
use mesh_types::fleet::NodeMode;

use super::bench::{Fleet, agent, node};
use super::*;

/// `n` nodes of ann with so many slots, and these agents of hers.
fn fleet(nodes: &[u32], agents: &[(&str, u32)]) -> Fleet {
    let mut fleet = Fleet::default();
    for (index, slots) in nodes.iter().enumerate() {
        fleet.add_node(node(&format!("n{index}"), "ann", NodeMode::Private, *slots));
    }
    let agents = agents
        .iter()
        .map(|(name, replicas)| agent(name, Some("ann"), *replicas));
    fleet.seen.agents.extend(agents);
    fleet
}

fn sentences(plan: &Plan) -> Vec<&str> {
    plan.actions.iter().map(|action| action.sentence.as_str()).collect()
}

fn kinds(plan: &Plan) -> Vec<ActionKind> {
    plan.actions.iter().map(|action| action.kind).collect()
}

fn later(fleet: &mut Fleet, seconds: u64) {
    fleet.now = fleet.now.plus(Duration::from_secs(seconds));
}

/// Plans and applies once; gives the plan.
fn pass(fleet: &mut Fleet) -> Plan {
    let plan = fleet.plan();
    fleet.apply(&plan);
    plan
}

/// Replicas that are to run, by node.
fn running(fleet: &Fleet) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for replica in fleet.kept.replicas.values().filter(|replica| !replica.stopping) {
        *counts.entry(replica.node.to_string()).or_default() += 1;
    }
    counts
}

#[test]
fn replicas_of_one_agent_stand_apart_and_nodes_are_filled_evenly() {
    let mut fleet = fleet(&[4, 4, 4], &[("a", 2), ("b", 2), ("c", 2)]);
    let plan = pass(&mut fleet);
    assert_eq!(plan.actions.len(), 6);
    assert!(
        running(&fleet).values().all(|count| (1..=3).contains(count)),
        "{:?}",
        running(&fleet)
    );
    assert_eq!(
        sentences(&plan)[0],
        "place a v1 on n0 because 2 replicas are wanted and 0 there"
    );
    assert!(fleet.settle(3).is_some());
}

#[test]
fn a_dead_node_is_replaced_at_once_and_says_so() {
    let mut fleet = fleet(&[4, 4, 4], &[("a", 2)]);
    fleet.settle(5).unwrap();
    later(&mut fleet, 100);
    fleet.lose(0);
    later(&mut fleet, 4);
    let plan = pass(&mut fleet);
    assert_eq!(
        sentences(&plan),
        [
            "place a v1 on n2 in place of n0 because n0 has been silent for 4 s (limit 3 s)",
            "remove a v1 from n0 because n0 has been silent for 4 s (limit 3 s)"
        ]
    );
    assert!(fleet.settle(3).is_some());
    assert_eq!(running(&fleet), [("n1".to_owned(), 1), ("n2".to_owned(), 1)].into());
}

#[test]
fn what_has_nowhere_else_to_go_waits_for_its_node() {
    let mut fleet = fleet(&[4], &[("a", 2)]);
    fleet.settle(5).unwrap();
    fleet.lose(0);
    let plan = pass(&mut fleet);
    assert_eq!(
        sentences(&plan),
        ["hold 2 replicas of a because no node has room for it (1: not there)"]
    );
    assert_eq!(plan.seen.replicas_ready, 0);
    later(&mut fleet, 60);
    fleet.bring_back(0);
    assert!(fleet.settle(3).is_some());
    assert_eq!(running(&fleet), [("n0".to_owned(), 2)].into());
}

#[test]
fn a_drained_node_is_emptied_only_as_others_get_ready() {
    let mut fleet = fleet(&[4, 4], &[("a", 1)]);
    fleet.settle(5).unwrap();
    fleet.seen.nodes[0].entry.drained = true;
    let plan = pass(&mut fleet);
    assert_eq!(
        sentences(&plan),
        ["place a v1 on n1 in place of n0 because n0 is drained"]
    );
    let drained: NodeId = "n0".parse().unwrap();
    assert!(fleet.kept.assignments()[&drained].drained);
    assert_eq!(pass(&mut fleet).acting(), 0, "the new one is not ready");
    fleet.follow();
    let plan = pass(&mut fleet);
    assert_eq!(sentences(&plan), ["stop a v1 on n0 because n0 is drained"]);
    fleet.settle(3).unwrap();
    assert_eq!(running(&fleet), [("n1".to_owned(), 1)].into());
    // And nothing comes back by itself when the drain is over.
    fleet.seen.nodes[0].entry.drained = false;
    fleet.follow();
    assert_eq!(pass(&mut fleet).acting(), 0);
}

#[test]
fn a_sleeping_node_keeps_nothing_even_if_nobody_else_has_room() {
    let mut fleet = fleet(&[4], &[("a", 1)]);
    fleet.settle(5).unwrap();
    fleet.seen.nodes[0].entry.configuration.mode = NodeMode::Sleep;
    let plan = pass(&mut fleet);
    assert_eq!(
        sentences(&plan),
        [
            "stop a v1 on n0 because n0 sleeps",
            "hold 1 replica of a because no node has room for it (1: the node sleeps)"
        ]
    );
    fleet.settle(3).unwrap();
    assert!(fleet.kept.replicas.is_empty());
}

#[test]
fn a_deaf_node_is_named_so_and_replaced_and_a_dead_one_is_not_deaf() {
    let mut fleet = fleet(&[4, 4], &[("a", 1)]);
    pass(&mut fleet);
    later(&mut fleet, 29);
    let plan = pass(&mut fleet);
    assert_eq!((plan.acting(), plan.unheard.len()), (0, 1));
    later(&mut fleet, 2);
    let plan = pass(&mut fleet);
    assert_eq!(
        sentences(&plan)[0],
        "place a v1 on n1 in place of n0 because n0 has been deaf for 0 s: it sends heartbeats, but does not take on \
         its assignment"
    );
    assert!(fleet.kept.nodes[&"n0".parse().unwrap()].deaf_since.is_some());
    // It hears again, and after a while it is trusted again.
    fleet.settle(5).unwrap();
    assert!(fleet.kept.nodes[&"n0".parse().unwrap()].deaf_since.is_none());
    fleet.seen.agents[0].placement.replicas = 2;
    later(&mut fleet, 5);
    pass(&mut fleet);
    assert_eq!(running(&fleet), [("n1".to_owned(), 2)].into());
    later(&mut fleet, 20);
    fleet.settle(8).unwrap();
    assert_eq!(running(&fleet), [("n0".to_owned(), 1), ("n1".to_owned(), 1)].into());
}

/// Killed and started again before anybody missed it: its first heartbeat has taken on nothing yet.
#[test]
fn a_node_that_was_started_again_is_not_deaf_at_once() {
    let mut fleet = fleet(&[4, 4], &[("a", 1)]);
    fleet.settle(5).unwrap();
    later(&mut fleet, 300);
    assert_eq!(pass(&mut fleet).acting(), 0);
    let observed = fleet.seen.nodes[0].observed.as_mut().unwrap();
    let beat = observed.heartbeat.as_mut().unwrap();
    (beat.incarnation, beat.seq, beat.assignment) = (beat.incarnation + 1, 1, 0);
    beat.replicas.clear();
    let plan = pass(&mut fleet);
    assert_eq!((plan.acting(), plan.unheard.len()), (0, 1), "{:?}", sentences(&plan));
    fleet.settle(3).unwrap();
    assert!(fleet.kept.nodes[&"n0".parse().unwrap()].lost_at.is_none());
}

/// What a newer version asks for does not drive out the one that serves.
#[test]
fn a_version_that_fits_nowhere_leaves_the_old_one_alone() {
    let mut fleet = fleet(&[4], &[("a", 1)]);
    fleet.settle(5).unwrap();
    fleet.seen.agents[0].version = 2;
    let mars = ("region".to_owned(), "mars".to_owned());
    fleet.seen.agents[0].placement.node_selector.extend([mars]);
    let plan = pass(&mut fleet);
    assert_eq!(plan.acting(), 0, "{:?}", sentences(&plan));
    assert_eq!(running(&fleet), [("n0".to_owned(), 1)].into());
}

#[test]
fn a_flapping_node_moves_a_replica_at_most_three_times() {
    let mut fleet = fleet(&[4, 4], &[("a", 2)]);
    fleet.settle(5).unwrap();
    let mut moves = 0;
    for second in 0..120 {
        if second % 2 == 0 {
            fleet.lose(0)
        } else {
            fleet.bring_back(0)
        }
        later(&mut fleet, 1);
        let plan = pass(&mut fleet);
        moves += kinds(&plan).iter().filter(|kind| **kind == ActionKind::Place).count();
        fleet.follow();
    }
    assert!(moves <= 3, "{moves} moves");
    // Up for good, it is used again in the end.
    fleet.bring_back(0);
    later(&mut fleet, 400);
    fleet.settle(8).unwrap();
    assert_eq!(running(&fleet).len(), 2);
}

#[test]
fn autoscaling_goes_up_at_once_and_down_after_a_while_and_to_zero() {
    let mut fleet = fleet(&[20, 20], &[("a", 1)]);
    let scaling = Autoscaling {
        min: 0,
        max: 6,
        queue_per_replica: 5,
        tokens_per_second_per_replica: None,
        idle_seconds: 60,
    };
    fleet.seen.agents[0].placement.autoscaling = Some(scaling);
    fleet.settle(5).unwrap();
    let demand = |waiting| AgentDemand {
        tenant: mesh_types::Tenant::default(),
        agent: "a".parse().unwrap(),
        waiting,
        running: 0,
        oldest_waiting_ms: 0,
    };
    fleet.seen.demand.agents = vec![demand(21)];
    let plan = pass(&mut fleet);
    assert_eq!(
        sentences(&plan)[0],
        "scale a from 1 to 5 because 21 invocations wait, and 5 may wait for each replica"
    );
    fleet.settle(5).unwrap();
    // A lull shorter than the limit changes nothing; what was needed in it counts.
    fleet.seen.demand.agents = vec![];
    later(&mut fleet, 50);
    assert_eq!(pass(&mut fleet).acting(), 0);
    fleet.seen.demand.agents = vec![demand(6)];
    later(&mut fleet, 50);
    assert_eq!(pass(&mut fleet).acting(), 0);
    later(&mut fleet, 10);
    let plan = pass(&mut fleet);
    assert_eq!(
        sentences(&plan)[0],
        "scale a from 5 to 2 because 2 replicas had been enough for 60 s"
    );
    fleet.seen.demand.agents = vec![];
    fleet.settle(8);
    // Shards that did not answer may hold work: nobody goes.
    fleet.seen.demand.complete = false;
    later(&mut fleet, 1_000);
    assert_eq!(pass(&mut fleet).acting(), 0);
    fleet.seen.demand.complete = true;
    pass(&mut fleet);
    later(&mut fleet, 61);
    fleet.settle(8).unwrap();
    assert!(fleet.kept.replicas.is_empty());
    fleet.seen.demand.agents = vec![demand(1)];
    assert!(kinds(&pass(&mut fleet)).contains(&ActionKind::Place));
}

#[test]
fn regions_come_before_nodes_where_asked() {
    let mut fleet = fleet(&[1, 9, 9, 9], &[("a", 3)]);
    for (index, region) in ["eu", "us", "us", "us"].iter().enumerate() {
        let labels = &mut fleet.seen.nodes[index].entry.labels;
        labels.insert("region".to_owned(), (*region).to_owned());
    }
    fleet.seen.agents[0].placement.spread = Spread::Region;
    pass(&mut fleet);
    assert_eq!(running(&fleet)["n0"], 1);
    assert_eq!(running(&fleet).len(), 3);
}

#[test]
fn what_nobody_wants_any_more_goes() {
    let mut fleet = fleet(&[4, 4], &[("a", 2), ("b", 1)]);
    fleet.settle(5).unwrap();
    fleet.seen.agents.remove(0);
    fleet.seen.agents[0].placement.replicas = 0;
    let plan = pass(&mut fleet);
    assert_eq!(kinds(&plan), [ActionKind::Stop; 3]);
    assert_eq!(plan.changes.dropped.len(), 1);
    fleet.settle(3).unwrap();
    assert!(fleet.kept.replicas.is_empty());
}

#[test]
fn a_forgotten_node_has_nothing_and_its_generation_never_goes_back() {
    let mut fleet = fleet(&[4], &[("a", 1)]);
    fleet.settle(5).unwrap();
    let before = fleet.kept.nodes.clone();
    fleet.seen.nodes.clear();
    pass(&mut fleet);
    assert!(fleet.kept.replicas.is_empty());
    let node = "n0".parse().unwrap();
    assert!(fleet.kept.nodes[&node].generation > before[&node].generation);
    later(&mut fleet, 8 * 24 * 3_600);
    pass(&mut fleet);
    assert!(fleet.kept.nodes.is_empty());
}
