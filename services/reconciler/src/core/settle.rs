//! After the placing: what is added, what goes for what has come, and what is remembered.

use mesh_types::ReplicaId;
use mesh_types::fleet::ReplicaState;

use super::agents::Decision;
use super::kept::{KeptAgent, Replica};
use super::nodes::Place;
use super::replicas::{Fate, Standing};
use super::{Plan, World, words};

/// After the placing: what goes for what has come, and what is remembered.
pub(super) fn settle(
    world: &World<'_>,
    places: &[Place<'_>],
    decision: &mut Decision<'_>,
    ids: &mut dyn FnMut() -> ReplicaId,
    plan: &mut Plan,
) {
    for place in std::mem::take(&mut decision.placed) {
        decision.needs = decision.needs.saturating_sub(1);
        add(world, places, decision, place, ids, plan);
    }
    let pending = pending(decision);
    settle_lost(places, decision, plan);
    settle_leaving(places, decision, pending, plan);
    if decision.needs > 0 {
        let because = std::mem::take(&mut decision.refused);
        plan.actions
            .push(words::hold(decision.agent, decision.needs, None, because));
    }
    let is_same = match decision.before {
        Some(before) => *before == decision.kept,
        None => decision.kept == KeptAgent::default(),
    };
    if !is_same {
        let key = (decision.agent.tenant.clone(), decision.agent.agent.clone());
        plan.changes.agents.push((key, std::mem::take(&mut decision.kept)));
    }
}

fn add(
    world: &World<'_>,
    places: &[Place<'_>],
    decision: &mut Decision<'_>,
    place: usize,
    ids: &mut dyn FnMut() -> ReplicaId,
    plan: &mut Plan,
) {
    let agent = decision.agent;
    let replica = Replica {
        id: ids(),
        tenant: agent.tenant.clone(),
        agent: agent.agent.clone(),
        version: decision.target.version,
        hash: decision.target.hash.clone(),
        concurrency: agent.concurrency,
        foreign: places[place].is_foreign(agent),
        node: places[place].entry.node_id.clone(),
        stopping: false,
        state: ReplicaState::Starting,
        detail: String::new(),
        since: world.now,
        placed_at: world.now,
    };
    let (from, because) = decision
        .reasons
        .pop_front()
        .unwrap_or_else(|| (None, default_reason(decision)));
    let from = from.map(|from| (&places[from].entry.node_id, places[from].label));
    plan.actions
        .push(words::place(&replica, places[place].label, from, because));
    plan.changes.place(replica);
    decision.arriving += 1;
}

fn default_reason(decision: &Decision<'_>) -> String {
    let (wanted, target) = (decision.wanted, decision.target.version);
    if decision.only_apart {
        return "two of its replicas share a node".to_owned();
    }
    if let Some(other) = decision.others.first() {
        return format!("v{target} takes the place of v{}", other.replica.version);
    }
    let there = decision.good.len() + decision.arriving as usize;
    let verb = if wanted == 1 { "is" } else { "are" };
    format!("{} {verb} wanted and {there} there", words::plural(wanted, "replica"))
}

/// Strikes off what is lost, but for what has nowhere else to go: it goes on there when its node is back.
fn settle_lost(places: &[Place<'_>], decision: &mut Decision<'_>, plan: &mut Plan) {
    let mut lost = std::mem::take(&mut decision.lost);
    let target = decision.target.version;
    lost.sort_by_key(|one| (one.replica.version != target, one.replica.id));
    for one in lost.into_iter().skip(decision.needs as usize) {
        let Fate::Lost(why) = &one.fate else { continue };
        let label = one.place.map_or("", |place| places[place].label);
        plan.actions.push(words::remove(one.replica, label, why.clone()));
        plan.changes.remove(one.replica);
    }
}

/// Stops what leaves, as far as others are ready or nobody is on the way.
fn settle_leaving(places: &[Place<'_>], decision: &mut Decision<'_>, pending: usize, plan: &mut Plan) {
    let staying = decision.good.iter().chain(&decision.others);
    let ready = staying.filter(|one| one.is_ready()).count();
    let mut keep = pending.min((decision.wanted as usize).saturating_sub(ready));
    for one in std::mem::take(&mut decision.leaving) {
        let Fate::Leaves(why) = &one.fate else { continue };
        if one.is_ready() && keep > 0 {
            keep -= 1;
        } else {
            stop(places, one, why.clone(), plan);
        }
    }
}

/// Replicas that are on their way to being ready.
fn pending(decision: &Decision<'_>) -> usize {
    decision.arriving as usize + decision.good.iter().filter(|one| !one.is_ready()).count()
}

pub(super) fn stop(places: &[Place<'_>], standing: &Standing<'_>, because: String, plan: &mut Plan) {
    let label = standing.place.map_or("", |place| places[place].label);
    plan.actions.push(words::stop(standing.replica, label, because));
    plan.changes.stop(standing.replica);
}
