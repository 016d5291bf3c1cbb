//! Replicas as they stand: what their nodes say of them, and what their nodes' condition makes of them.

use std::collections::HashMap;

use mesh_types::fleet::{ReplicaReport, ReplicaState};
use mesh_types::{NodeId, ReplicaId};

use super::agents::Decision;
use super::kept::{AgentKey, Replica};
use super::nodes::{Condition, Place};
use super::{Plan, World, words};

/// What becomes of a replica before its agent's numbers are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// Where it should be, as far as its node goes.
    Stays,
    /// It works, and is to go when others are ready.
    Leaves(String),
    /// Nobody runs it.
    Lost(String),
    /// Told to stop before.
    Stopping,
    /// Struck off by this plan.
    Gone,
}

#[derive(Debug)]
pub(super) struct Standing<'a> {
    pub(super) replica: &'a Replica,
    /// Index of its node among the places; `None`: the registry does not know it.
    pub(super) place: Option<usize>,
    /// Index of its agent among those that are wanted.
    pub(super) agent: Option<usize>,
    pub(super) state: ReplicaState,
    pub(super) since: mesh_types::Timestamp,
    pub(super) fate: Fate,
}

impl Standing<'_> {
    pub(super) fn is_gone(&self) -> bool {
        self.fate == Fate::Gone
    }

    /// Whether it takes invocations now.
    pub(super) fn is_ready(&self) -> bool {
        self.state == ReplicaState::Ready && matches!(self.fate, Fate::Stays | Fate::Leaves(_))
    }
}

/// Every kept replica, by id. Those that have ended are removed here.
pub(super) fn standings<'a>(world: &World<'a>, places: &[Place<'_>], plan: &mut Plan) -> Vec<Standing<'a>> {
    let by_node: Index<&NodeId> = index(places.iter().map(|place| &place.entry.node_id));
    let agents = world.seen.agents.iter();
    let by_agent: Index<_> = index(agents.map(|agent| (&agent.tenant, &agent.agent)));
    let reports = reports(places);
    let mut standings: Vec<Standing<'a>> = Vec::with_capacity(world.kept.replicas.len());
    for replica in world.kept.replicas.values() {
        let place = by_node.get(&replica.node).copied();
        let report = place.and_then(|place| reported(&reports[place], replica.id));
        let mut standing = Standing {
            replica,
            place,
            agent: by_agent.get(&(&replica.tenant, &replica.agent)).copied(),
            state: replica.state,
            since: replica.since,
            fate: Fate::Stays,
        };
        observe(world, &mut standing, place.map(|place| &places[place]), report, plan);
        standing.fate = fate(world, &standing, place.map(|place| &places[place]), report);
        if standing.is_gone() {
            let label = place.map_or(replica.node.as_str(), |place| places[place].label);
            let because = match place.map(|place| &places[place].condition) {
                None => format!("{label} is forgotten"),
                Some(Condition::Lost(why)) => why.clone(),
                Some(_) => "it has stopped".to_owned(),
            };
            plan.actions.push(words::remove(replica, label, because));
            plan.changes.remove(replica);
        }
        standings.push(standing);
    }
    standings
}

/// With a quick hash: tens of thousands of names are looked up in each pass.
type Index<K> = HashMap<K, usize, foldhash::fast::RandomState>;

fn index<K: std::hash::Hash + Eq>(keys: impl Iterator<Item = K>) -> Index<K> {
    keys.enumerate().map(|(index, key)| (key, index)).collect()
}

/// What each place says, by replica.
fn reports<'p>(places: &'p [Place<'_>]) -> Vec<Vec<&'p ReplicaReport>> {
    let of_place = |place: &'p Place<'_>| {
        let beat = place.heartbeat().filter(|_| place.is_alive());
        let mut reports: Vec<&ReplicaReport> = beat.map_or_else(Vec::new, |beat| beat.replicas.iter().collect());
        // Mostly sorted already, since a node lists its replicas in order. Stable: of two reports, the later one counts.
        reports.sort_by_key(|report| report.replica);
        reports
    };
    places.iter().map(of_place).collect()
}

fn reported<'p>(reports: &[&'p ReplicaReport], id: ReplicaId) -> Option<&'p ReplicaReport> {
    let end = reports.partition_point(|report| report.replica <= id);
    reports[..end].last().copied().filter(|report| report.replica == id)
}

/// Takes over what the node says, where it says something else than before.
fn observe(
    world: &World<'_>,
    standing: &mut Standing<'_>,
    place: Option<&Place<'_>>,
    report: Option<&ReplicaReport>,
    plan: &mut Plan,
) {
    let Some(place) = place.filter(|place| place.is_alive()) else {
        return;
    };
    let replica = standing.replica;
    let (state, detail) = match report {
        Some(report) => (report.state, report.detail.as_str()),
        // It ran, and a node that has heard of it does not: started anew.
        None if place.has_heard() && !replica.stopping => (ReplicaState::Starting, "its node does not run it yet"),
        None => return,
    };
    if state == replica.state && (detail == replica.detail || report.is_none()) {
        return;
    }
    if state != replica.state {
        (standing.state, standing.since) = (state, world.now);
    }
    let changed = plan.changes.replica(replica);
    (changed.state, changed.since) = (standing.state, standing.since);
    detail.clone_into(&mut changed.detail);
}

fn fate(world: &World<'_>, standing: &Standing<'_>, place: Option<&Place<'_>>, report: Option<&ReplicaReport>) -> Fate {
    let replica = standing.replica;
    let Some(place) = place else {
        return Fate::Gone;
    };
    if replica.stopping {
        let is_over = |report: &ReplicaReport| {
            report.state == ReplicaState::Failed || (report.state == ReplicaState::Stopping && report.running == 0)
        };
        let has_stopped = match &place.condition {
            Condition::Lost(_) => true,
            _ => place.has_heard() && report.is_none_or(is_over),
        };
        return if has_stopped { Fate::Gone } else { Fate::Stopping };
    }
    match &place.condition {
        Condition::Lost(why) => return Fate::Lost(why.clone()),
        Condition::Leaving(why) => return Fate::Leaves(why.clone()),
        Condition::Deaf(why) if standing.state == ReplicaState::Ready => return Fate::Leaves(why.clone()),
        Condition::Deaf(why) => return Fate::Lost(why.clone()),
        Condition::Fine => {}
    }
    let judged = standing.agent.map(|agent| {
        let agent = &world.seen.agents[agent];
        if agent.version == replica.version {
            place.suits(agent)
        } else {
            // What a newer version asks for does not drive out the one that still serves.
            place.serves(agent)
        }
    });
    match judged {
        Some(Err(why)) => Fate::Leaves(format!("{} may not run it: {why}", place.label)),
        _ => Fate::Stays,
    }
}

/// Takes the room of all that runs, and of what stops and still runs.
pub(super) fn take_room(places: &mut [Place<'_>], standings: &[Standing<'_>]) {
    for standing in standings.iter().filter(|standing| !standing.is_gone()) {
        let Some(place) = standing.place else { continue };
        places[place].take();
    }
}

/// Stops what nobody wants any more, and forgets agents that have nothing left.
pub(super) fn orphans(
    world: &World<'_>,
    places: &[Place<'_>],
    standings: &[Standing<'_>],
    decisions: &[Decision<'_>],
    plan: &mut Plan,
) {
    const BECAUSE: &str = "no published version asks for a place on nodes";
    for standing in standings.iter().filter(|standing| standing.agent.is_none()) {
        let label = standing.place.map_or("", |place| places[place].label);
        match standing.fate {
            Fate::Gone | Fate::Stopping => {}
            Fate::Lost(_) => {
                plan.actions
                    .push(words::remove(standing.replica, label, BECAUSE.to_owned()));
                plan.changes.remove(standing.replica);
            }
            Fate::Stays | Fate::Leaves(_) => {
                plan.actions
                    .push(words::stop(standing.replica, label, BECAUSE.to_owned()));
                plan.changes.stop(standing.replica);
            }
        }
    }
    let known = decisions.iter().filter(|decision| decision.before.is_some()).count();
    if known == world.kept.agents.len() {
        return;
    }
    // Both are sorted: one walk finds who is missing.
    let mut wanted = decisions
        .iter()
        .map(|decision| (&decision.agent.tenant, &decision.agent.agent))
        .peekable();
    for key in world.kept.agents.keys() {
        let (tenant, agent): &AgentKey = key;
        while wanted.next_if(|one| *one < (tenant, agent)).is_some() {}
        if wanted.peek() != Some(&(tenant, agent)) {
            plan.changes.dropped.push(key.clone());
        }
    }
}
