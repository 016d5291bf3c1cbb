//! Rules that hold over random fleets: a plan leaves an empty plan, keeps to the room, and places where it may.

use std::collections::BTreeMap;

use mesh_api::reconciler::ActionKind;
use mesh_types::Id;
use mesh_types::agent::Spread;
use mesh_types::fleet::{NodeMode, ReplicaState, Sharing};
use mesh_types::fleet_policy;
use proptest::prelude::*;

use super::super::bench::{Fleet, agent, node};
use super::super::*;
use super::{later, pass, sentences};

const OWNERS: [&str; 2] = ["ann", "bob"];

prop_compose! {
    fn any_node()(
        owner in prop::sample::select(OWNERS.to_vec()),
        mode in prop::sample::select(vec![NodeMode::Private, NodeMode::Shared, NodeMode::Shared, NodeMode::Sleep]),
        slots in 0_u32..5,
        region in prop::sample::select(vec!["eu", "us"]),
        capable in any::<bool>(),
        alive in prop::bool::weighted(0.8),
        drained in prop::bool::weighted(0.2),
        others in prop::option::weighted(0.2, 0_u32..3),
    ) -> (NodeEntry, bool) {
        let mut entry = node("x", owner, mode, slots);
        entry.labels.insert("region".to_owned(), region.to_owned());
        if !capable { entry.capabilities.clear(); }
        entry.drained = drained;
        entry.configuration.sharing = Sharing { invocations_max: others, ..Sharing::default() };
        (entry, alive)
    }
}

prop_compose! {
    fn any_agent()(
        owner in prop::sample::select(OWNERS.to_vec()),
        replicas in 0_u32..5,
        region in prop::option::weighted(0.3, prop::sample::select(vec!["eu", "us"])),
        version in 1_u32..3,
        by_region in any::<bool>(),
        surge in 0_u32..3,
        unavailable in 0_u32..3,
    ) -> PlacedAgent {
        let mut agent = agent("x", Some(owner), replicas);
        agent.version = version;
        agent.placement.rollout.surge = surge.max(u32::from(unavailable == 0));
        agent.placement.rollout.unavailable = unavailable;
        if by_region { agent.placement.spread = Spread::Region; }
        if let Some(region) = region {
            agent.placement.node_selector.insert("region".to_owned(), region.to_owned());
        }
        agent
    }
}

type Described = (Vec<(NodeEntry, bool)>, Vec<PlacedAgent>);

fn described() -> impl Strategy<Value = Described> {
    (
        prop::collection::vec(any_node(), 0..7),
        prop::collection::vec(any_agent(), 0..7),
    )
}

/// Makes the fleet what is described, whatever it was.
fn become_(fleet: &mut Fleet, (nodes, agents): &Described) {
    fleet.seen.nodes.truncate(nodes.len());
    for (index, (entry, alive)) in nodes.iter().enumerate() {
        let entry = NodeEntry {
            node_id: format!("n{index}").parse().unwrap(),
            ..entry.clone()
        };
        if index == fleet.seen.nodes.len() {
            fleet.add_node(entry.clone());
        }
        let was_alive = fleet.seen.nodes[index].observed.as_ref().unwrap().alive;
        let beat = fleet.seen.nodes[index]
            .observed
            .as_mut()
            .unwrap()
            .heartbeat
            .as_mut()
            .unwrap();
        (beat.mode, beat.slots) = (entry.configuration.mode, entry.slots);
        fleet.seen.nodes[index].entry = entry;
        match (was_alive, *alive) {
            (true, false) => fleet.lose(index),
            (false, true) => fleet.bring_back(index),
            _ => {}
        }
    }
    let named = agents.iter().enumerate().map(|(index, agent)| PlacedAgent {
        agent: format!("a{index}").parse().unwrap(),
        ..agent.clone()
    });
    fleet.seen.agents = named.collect();
}

/// No node over its room, nothing new where nothing may be.
fn check_places(fleet: &Fleet, plan: &Plan) {
    let entries: BTreeMap<_, _> = fleet
        .seen
        .nodes
        .iter()
        .map(|node| (&node.entry.node_id, node))
        .collect();
    for action in plan.actions.iter().filter(|action| action.kind == ActionKind::Place) {
        let seen = entries[action.to.as_ref().unwrap()];
        let agent = fleet
            .seen
            .agents
            .iter()
            .find(|agent| Some(&agent.agent) == action.agent.as_ref())
            .unwrap();
        assert!(!seen.entry.drained && seen.observed.as_ref().unwrap().alive);
        assert!(fleet_policy::serves(seen.entry.facts(), agent.facts()).is_ok());
        assert!(!seen.entry.capabilities.is_empty());
        for (key, value) in &agent.placement.node_selector {
            assert_eq!(seen.entry.labels.get(key), Some(value));
        }
        let on = fleet
            .kept
            .replicas
            .values()
            .filter(|replica| replica.node == seen.entry.node_id);
        let used = on.count();
        assert!(
            used <= seen.entry.slots as usize,
            "{used} replicas in {} slots",
            seen.entry.slots
        );
        let is_foreign = agent.owner.as_deref() != Some(seen.entry.owner.as_str());
        assert!(!is_foreign || seen.entry.configuration.sharing.invocations_max != Some(0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn applying_a_plan_leaves_an_empty_plan(stages in prop::collection::vec((described(), 0_u64..400, 0_u128..8), 1..5)) {
        let mut fleet = Fleet::default();
        for (stage, seconds, bad) in &stages {
            become_(&mut fleet, stage);
            later(&mut fleet, *seconds);
            for _ in 0..4 {
                let plan = pass(&mut fleet);
                check_places(&fleet, &plan);
                let again = fleet.plan();
                prop_assert_eq!(again.acting(), 0, "{:?}", sentences(&again));
                prop_assert!(again.changes.is_empty(), "{:?}", again.changes);
                fleet.follow_with(|report| match report.replica.as_u128() % 6 {
                    id if id == *bad => ReplicaState::Failed,
                    id if id + 1 == *bad => ReplicaState::Starting,
                    _ => ReplicaState::Ready,
                });
            }
        }
        // All is steady again: with observations that follow, it comes to rest.
        later(&mut fleet, 1_000);
        prop_assert!(fleet.settle(40).is_some(), "{:?}", sentences(&fleet.plan()));
    }

    #[test]
    fn with_room_for_all_every_count_is_right((mut nodes, agents) in described(), seconds in 0_u64..100) {
        for (entry, alive) in &mut nodes {
            (entry.slots, entry.drained, *alive) = (100, false, true);
            entry.configuration.mode = NodeMode::Shared;
            entry.configuration.sharing = Sharing::default();
            entry.capabilities = vec!["llm".to_owned()];
        }
        let mut fleet = Fleet::default();
        become_(&mut fleet, &(nodes, agents));
        later(&mut fleet, seconds);
        prop_assert!(fleet.settle(20).is_some());
        for agent in &fleet.seen.agents {
            let selector = &agent.placement.node_selector;
            let fits = |node: &&NodeSeen| selector.iter().all(|(key, value)| node.entry.labels.get(key) == Some(value));
            let suitable = fleet.seen.nodes.iter().filter(fits).count();
            let own: Vec<_> = fleet.kept.replicas.values().filter(|replica| replica.agent == agent.agent).collect();
            let wanted = if suitable == 0 { 0 } else { agent.placement.replicas as usize };
            prop_assert_eq!(own.len(), wanted);
            let apart: std::collections::BTreeSet<_> = own.iter().map(|replica| &replica.node).collect();
            prop_assert_eq!(apart.len(), wanted.min(suitable), "replicas of one agent stand apart");
        }
    }
}
