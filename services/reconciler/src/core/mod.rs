//! The plan: desired against observed, as a pure function. Time, ids and everything seen come in as arguments; what goes
//! out is a list of actions with their reasons and the rows that change. No I/O here.
//!
//! The stages, each in its file: `nodes` (alive, deaf, flapping), `replicas` (what became of each), `scale` (how many
//! are wanted), `agents` and `versions` (how many to place and to stop, of which version), `pool` (where), `settle` (what
//! goes for what has come), `words` (why, for people).

mod agents;
pub(crate) mod bench;
mod kept;
mod nodes;
mod pool;
mod replicas;
mod scale;
mod settle;
#[cfg(test)]
mod tests;
mod versions;
mod words;

use std::time::Duration;

use mesh_api::execution::Demand;
use mesh_api::fleet::{NodeEntry, PlacedAgent};
use mesh_api::heartbeat::ObservedNode;
use mesh_api::reconciler::{Action, ActionKind, Seen};
use mesh_types::{NodeId, ReplicaId, Timestamp};

pub(crate) use kept::{AgentKey, Changes, Kept, KeptNode, Replica};

use agents::Decision;
use nodes::Place;
use replicas::Standing;

/// Times that the plan goes by; the configuration's.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) deaf_after: Duration,
    pub(crate) stable: Duration,
    pub(crate) stable_max: Duration,
    pub(crate) flap_window: Duration,
    pub(crate) retry: Duration,
    pub(crate) version_retry: Duration,
}

/// A registered node and what is seen of it.
#[derive(Debug, Clone)]
pub(crate) struct NodeSeen {
    pub(crate) entry: NodeEntry,
    pub(crate) observed: Option<ObservedNode>,
}

/// What should be, and what is. Sorted: nodes by id, agents by tenant and name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observation {
    pub(crate) nodes: Vec<NodeSeen>,
    pub(crate) agents: Vec<PlacedAgent>,
    pub(crate) demand: Demand,
}

/// All that a plan is made from.
pub(crate) struct World<'a> {
    pub(crate) now: Timestamp,
    /// Of the reconciler that plans.
    pub(crate) epoch: u64,
    /// Since when there is a reconciler: before, no node could hear of its assignment.
    pub(crate) since: Timestamp,
    pub(crate) seen: &'a Observation,
    pub(crate) kept: &'a Kept,
    pub(crate) settings: &'a Settings,
}

/// What is to be done, and what is remembered of it.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    pub(crate) changes: Changes,
    pub(crate) seen: Seen,
    /// When something is due without anything new being seen.
    pub(crate) next_due: Option<Timestamp>,
    /// Nodes that have not taken on what they are to run: their bells are rung again.
    pub(crate) unheard: Vec<NodeId>,
}

impl Plan {
    /// Actions that change something; what is held does not.
    pub(crate) fn acting(&self) -> usize {
        self.actions
            .iter()
            .filter(|action| action.kind != ActionKind::Hold)
            .count()
    }

    pub(super) fn due(&mut self, at: Timestamp) {
        self.next_due = Some(self.next_due.map_or(at, |before| before.min(at)));
    }
}

/// Plans one pass. The same world and the same ids give the same plan.
pub(crate) fn plan(world: &World<'_>, ids: &mut dyn FnMut() -> ReplicaId) -> Plan {
    let mut plan = Plan::default();
    let mut places = nodes::places(world, &mut plan);
    let standings = replicas::standings(world, &places, &mut plan);
    replicas::take_room(&mut places, &standings);
    let mut decisions = agents::decide(world, &places, &standings, &mut plan);
    pool::place(world, &mut places, &mut decisions);
    for decision in &mut decisions {
        settle::settle(world, &places, decision, ids, &mut plan);
    }
    replicas::orphans(world, &places, &standings, &decisions, &mut plan);
    finish_nodes(world, &places, &mut plan);
    count(world, &places, &standings, &decisions, &mut plan);
    plan
}

/// Raises the generation of each node whose assignment changes, and drops what is known of forgotten ones.
fn finish_nodes(world: &World<'_>, places: &[Place<'_>], plan: &mut Plan) {
    let mut touched = std::mem::take(&mut plan.changes.touched);
    for place in places {
        let before = world.kept.nodes.get(&place.entry.node_id);
        let others_max = place.entry.configuration.sharing.invocations_max;
        let is_changed = place.kept.drained != place.entry.drained || place.kept.others_max != others_max;
        let is_touched = touched.remove(&place.entry.node_id) || is_changed;
        let mut kept = place.kept.clone();
        kept.others_max = others_max;
        if is_touched {
            kept.touch(world.now, world.epoch, place.entry.drained);
        }
        if before != Some(&kept) {
            plan.changes.nodes.push((place.entry.node_id.clone(), kept));
        }
    }
    for node in touched {
        // Forgotten by the registry: it is told that it runs nothing, should it still be there.
        let mut kept = world.kept.nodes.get(&node).cloned().unwrap_or_default();
        kept.touch(world.now, world.epoch, true);
        plan.changes.nodes.push((node, kept));
    }
    nodes::forget(world, places, plan);
}

fn count(
    world: &World<'_>,
    places: &[Place<'_>],
    standings: &[Standing<'_>],
    decisions: &[Decision<'_>],
    plan: &mut Plan,
) {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let is_assigned = |standing: &&Standing<'_>| !standing.replica.stopping && !standing.is_gone();
    let wanted = decisions.iter().map(|decision| decision.wanted as usize).sum();
    plan.seen = Seen {
        nodes: number(places.len()),
        nodes_alive: number(places.iter().filter(|place| place.is_alive()).count()),
        agents: number(world.seen.agents.len()),
        replicas_wanted: number(wanted),
        replicas_assigned: number(standings.iter().filter(is_assigned).count()),
        replicas_ready: number(
            standings
                .iter()
                .filter(is_assigned)
                .filter(|one| one.is_ready())
                .count(),
        ),
        waiting: world.seen.demand.agents.iter().map(|agent| agent.waiting).sum(),
    };
}
