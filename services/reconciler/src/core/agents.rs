//! Each agent's numbers: which version is meant, how many replicas to place and which to stop, where its new
//! invocations go, and back when a version fails its health.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use mesh_api::execution::AgentDemand;
use mesh_api::fleet::PlacedAgent;
use mesh_types::ReplicaId;
use mesh_types::fleet::ReplicaState;

use super::kept::{FailedVersion, KeptAgent, Replica, Version};
use super::nodes::Place;
use super::replicas::{Fate, Standing};
use super::{Plan, World, scale, words};

/// Longest pause between two replacements of failing replicas.
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Longest pause before a failed version is tried again.
const VERSION_RETRY_MAX: Duration = Duration::from_secs(3_600);

/// What one agent needs of this pass.
pub(super) struct Decision<'s> {
    pub(super) agent: &'s PlacedAgent,
    pub(super) wanted: u32,
    pub(super) target: Version,
    kept: KeptAgent,
    /// Of the version that is meant, where they may stay.
    good: Vec<&'s Standing<'s>>,
    /// Of other versions.
    others: Vec<&'s Standing<'s>>,
    leaving: Vec<&'s Standing<'s>>,
    lost: Vec<&'s Standing<'s>>,
    /// How many to place, and why each.
    pub(super) needs: u32,
    reasons: VecDeque<(Option<usize>, String)>,
    /// It has what it needs, and two of it share a node: one more is placed if another node is free of it.
    pub(super) only_apart: bool,
    /// Its replicas by place, also such that stop.
    pub(super) on_places: HashMap<usize, u32>,
    /// Where the new ones go.
    pub(super) placed: Vec<usize>,
    /// How many of them are in the plan.
    arriving: u32,
    /// Why there are fewer than needed.
    pub(super) refused: String,
}

impl Decision<'_> {
    /// Whether nothing of it runs or is on its way.
    pub(super) fn is_bare(&self) -> bool {
        self.good.is_empty() && self.others.is_empty() && self.leaving.is_empty()
    }
}

/// Decides for every wanted agent, in their order.
pub(super) fn decide<'s>(
    world: &World<'s>,
    places: &[Place<'_>],
    standings: &'s [Standing<'s>],
    plan: &mut Plan,
) -> Vec<Decision<'s>> {
    let mut of_agent: Vec<Vec<&Standing<'_>>> = vec![Vec::new(); world.seen.agents.len()];
    for standing in standings {
        if let Some(agent) = standing.agent {
            of_agent[agent].push(standing);
        }
    }
    let demands: HashMap<_, &AgentDemand> = world
        .seen
        .demand
        .agents
        .iter()
        .map(|demand| ((&demand.tenant, &demand.agent), demand))
        .collect();
    let rates = token_rates(world, places);
    let agents = world.seen.agents.iter().zip(of_agent);
    agents
        .map(|(agent, own)| {
            let key = (agent.tenant.clone(), agent.agent.clone());
            let mut kept = world.kept.agents.get(&key).cloned().unwrap_or_default();
            let name = (&agent.tenant, &agent.agent);
            let rate = rates.get(&name).copied().unwrap_or_default();
            let wanted = scale::wanted(world, agent, demands.get(&name).copied(), rate, &mut kept, plan);
            let mut decision = Decision {
                agent,
                wanted,
                target: Version::published(agent),
                kept,
                good: Vec::new(),
                others: Vec::new(),
                leaving: Vec::new(),
                lost: Vec::new(),
                needs: 0,
                reasons: VecDeque::new(),
                only_apart: false,
                on_places: HashMap::new(),
                placed: Vec::new(),
                arriving: 0,
                refused: String::new(),
            };
            decide_one(world, places, own, &mut decision, plan);
            decision
        })
        .collect()
}

/// Tokens per second of each agent: a node's rate, shared by what its replicas run.
fn token_rates<'p>(
    world: &World<'_>,
    places: &'p [Place<'_>],
) -> HashMap<(&'p mesh_types::Tenant, &'p mesh_types::AgentName), f64> {
    let mut rates = HashMap::new();
    let counts = |agent: &PlacedAgent| {
        let scaling = agent.placement.autoscaling.as_ref();
        scaling.is_some_and(|scaling| scaling.tokens_per_second_per_replica.is_some())
    };
    if !world.seen.agents.iter().any(counts) {
        return rates;
    }
    for beat in places
        .iter()
        .filter(|place| place.is_alive())
        .filter_map(Place::heartbeat)
    {
        let running: u32 = beat.replicas.iter().map(|replica| replica.running).sum();
        for replica in beat.replicas.iter().filter(|replica| replica.running > 0) {
            let share = f64::from(replica.running) / f64::from(running);
            *rates.entry((&replica.tenant, &replica.agent)).or_default() += beat.tokens_per_second * share;
        }
    }
    rates
}

fn decide_one<'s>(
    world: &World<'s>,
    places: &[Place<'_>],
    own: Vec<&'s Standing<'s>>,
    decision: &mut Decision<'s>,
    plan: &mut Plan,
) {
    choose_target(world, decision, plan);
    let mut staying = Vec::new();
    for standing in own {
        if let Some(place) = standing.place.filter(|_| !standing.is_gone()) {
            *decision.on_places.entry(place).or_default() += 1;
        }
        match standing.fate {
            Fate::Stays => staying.push(standing),
            Fate::Leaves(_) => decision.leaving.push(standing),
            Fate::Lost(_) => decision.lost.push(standing),
            Fate::Stopping | Fate::Gone => {}
        }
    }
    let is_target = |one: &&Standing<'_>, target: &Version| one.replica.version == target.version;
    let failing: Vec<_> = staying
        .iter()
        .filter(|one| is_target(one, &decision.target))
        .filter_map(|one| failure(world, places, one, decision.agent, plan).map(|why| (*one, why)))
        .collect();
    let is_proven = staying
        .iter()
        .chain(&decision.leaving)
        .any(|one| is_target(one, &decision.target) && one.is_ready());
    let is_back = match failing.first() {
        Some((_, why)) if !is_proven => roll_back(world, decision, why, plan),
        _ => false,
    };
    let (good, others) = staying.into_iter().partition(|one| is_target(one, &decision.target));
    (decision.good, decision.others) = (good, others);
    if !is_back {
        replace_failing(world, places, decision, failing, plan);
    }
    serve(world, places, decision, plan);
    stop_others(places, decision, plan);
    conclude(decision);
    stop_extra(places, decision, plan);
    need(world, decision, plan);
}

/// The published version, or the one before while it has failed and its time has not come.
fn choose_target(world: &World<'_>, decision: &mut Decision<'_>, plan: &mut Plan) {
    let agent = decision.agent;
    let kept = &mut decision.kept;
    let is_same = |failed: &FailedVersion| failed.version == agent.version && failed.published_at == agent.published_at;
    kept.failed = kept.failed.take().filter(is_same);
    let fallback = kept.serving.as_ref().filter(|serving| serving.version != agent.version);
    if let (Some(failed), Some(fallback)) = (&kept.failed, fallback)
        && failed.next_try_at > world.now
    {
        decision.target = fallback.clone();
        plan.due(failed.next_try_at);
    }
}

/// Why a replica that stays does not do its work, if it had its time.
fn failure(
    world: &World<'_>,
    places: &[Place<'_>],
    standing: &Standing<'_>,
    agent: &PlacedAgent,
    plan: &mut Plan,
) -> Option<String> {
    let place = &places[standing.place?];
    match standing.state {
        ReplicaState::Ready => None,
        ReplicaState::Failed => {
            let detail = plan
                .changes
                .replicas
                .get(&standing.replica.id)
                .map(|changed| &changed.detail);
            let detail = detail.unwrap_or(&standing.replica.detail);
            Some(format!("it failed on {}: {detail}", place.label))
        }
        // Whether the node hears at all is another question.
        ReplicaState::Starting | ReplicaState::Stopping if !place.has_heard() => None,
        ReplicaState::Starting | ReplicaState::Stopping => {
            let health = Duration::from_secs(u64::from(agent.placement.rollout.health_seconds));
            let since = standing.since.max(world.since).max(place.kept.alive_since?);
            let due = since.plus(health);
            if due > world.now {
                plan.due(due);
                return None;
            }
            Some(format!(
                "it was not ready on {} within {}",
                place.label,
                words::span(health)
            ))
        }
    }
}

/// Goes back to the version that worked, if there is one.
fn roll_back(world: &World<'_>, decision: &mut Decision<'_>, why: &str, plan: &mut Plan) -> bool {
    let target = decision.target.clone();
    let kept = &mut decision.kept;
    let is_serving = kept
        .serving
        .as_ref()
        .is_some_and(|serving| serving.version == target.version);
    let before = if is_serving {
        kept.previous.take()
    } else {
        kept.serving.clone()
    };
    let Some(before) = before.filter(|before| before.version != target.version) else {
        return false;
    };
    let tries = kept.failed.as_ref().map_or(1, |failed| failed.tries.saturating_add(1));
    let pause = doubled(world.settings.version_retry, tries, VERSION_RETRY_MAX);
    let next_try_at = world.now.plus(pause);
    plan.due(next_try_at);
    let action = words::roll_back(
        decision.agent,
        target.version,
        before.version,
        next_try_at,
        why.to_owned(),
    );
    plan.actions.push(action);
    kept.failed = Some(FailedVersion {
        version: target.version,
        published_at: decision.agent.published_at,
        tries,
        next_try_at,
        why: why.to_owned(),
    });
    if is_serving {
        (kept.serving, kept.epoch) = (Some(before.clone()), world.epoch);
    }
    decision.target = before;
    true
}

fn doubled(first: Duration, tries: u32, most: Duration) -> Duration {
    first.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(most)
}

/// Stops replicas that failed, so that others are placed; with growing pauses between.
fn replace_failing<'s>(
    world: &World<'_>,
    places: &[Place<'_>],
    decision: &mut Decision<'s>,
    failing: Vec<(&'s Standing<'s>, String)>,
    plan: &mut Plan,
) {
    if failing.is_empty() {
        return;
    }
    if let Some(at) = decision.kept.retry_at.filter(|at| *at > world.now) {
        plan.due(at);
        return;
    }
    let kept = &mut decision.kept;
    let is_old = kept
        .retry_at
        .is_none_or(|at| world.now.since(at) >= world.settings.flap_window);
    kept.retries = if is_old { 1 } else { kept.retries.saturating_add(1) };
    kept.retry_at = Some(world.now.plus(doubled(world.settings.retry, kept.retries, RETRY_MAX)));
    for (standing, why) in failing {
        decision.good.retain(|one| one.replica.id != standing.replica.id);
        stop(places, standing, why.clone(), plan);
        decision.reasons.push_back((standing.place, why));
    }
}

/// Moves new invocations to the version that is meant once a replica of it is ready.
fn serve(world: &World<'_>, places: &[Place<'_>], decision: &mut Decision<'_>, plan: &mut Plan) {
    let target = &decision.target;
    let own = decision.good.iter().chain(&decision.leaving);
    let ready = own.filter(|one| one.replica.version == target.version && one.is_ready());
    let Some(place) = ready.filter_map(|one| one.place).next() else {
        return;
    };
    let kept = &mut decision.kept;
    if kept
        .serving
        .as_ref()
        .is_none_or(|serving| serving.version != target.version)
    {
        let because = format!("its first replica is ready on {}", places[place].label);
        let before = kept.serving.as_ref().map(|serving| serving.version);
        plan.actions
            .push(words::serve(decision.agent, target.version, before, because));
        kept.previous = kept.serving.replace(target.clone());
        kept.epoch = world.epoch;
    }
}

/// Whether the version that is meant has taken over for good: then nobody goes back from it by itself.
fn conclude(decision: &mut Decision<'_>) {
    let ready = decision.good.iter().filter(|one| one.is_ready()).count();
    let target = decision.target.version;
    let kept = &mut decision.kept;
    let is_serving = kept.serving.as_ref().is_some_and(|serving| serving.version == target);
    if is_serving && decision.others.is_empty() && ready >= decision.wanted as usize {
        kept.previous = None;
        kept.failed = kept.failed.take().filter(|failed| failed.version != target);
    }
}

/// Lets replicas of other versions go, as many as may be missing.
fn stop_others(places: &[Place<'_>], decision: &mut Decision<'_>, plan: &mut Plan) {
    let ready = [&decision.good, &decision.others, &decision.leaving];
    let ready = ready.into_iter().flatten().filter(|one| one.is_ready()).count();
    let may_miss = decision.agent.placement.rollout.unavailable;
    let needed = decision.wanted.saturating_sub(may_miss) as usize;
    let mut spare = ready.saturating_sub(needed);
    let target = decision.target.version;
    let mut others = std::mem::take(&mut decision.others);
    // Oldest placed last, so that what has proven itself stays longest.
    others.sort_by_key(|one| std::cmp::Reverse((one.replica.placed_at, one.replica.id)));
    others.retain(|one| {
        if one.is_ready() {
            let Some(left) = spare.checked_sub(1) else {
                return true;
            };
            spare = left;
        }
        stop(places, one, format!("v{target} takes its place"), plan);
        false
    });
    decision.others = others;
}

/// Stops what is more than wanted: first what shares a node, then what is not ready, then the newest.
fn stop_extra(places: &[Place<'_>], decision: &mut Decision<'_>, plan: &mut Plan) {
    let wanted = decision.wanted;
    let mut extra = decision.good.len().saturating_sub(wanted as usize);
    if extra == 0 {
        return;
    }
    let mut on: HashMap<Option<usize>, u32> = HashMap::new();
    for one in &decision.good {
        *on.entry(one.place).or_default() += 1;
    }
    let starting = decision
        .good
        .iter()
        .filter(|one| one.state == ReplicaState::Starting)
        .count();
    if on.values().any(|count| *count > 1) && extra <= starting && wanted > 0 {
        // The one that will stand apart is on its way; until it is ready, nobody goes.
        return;
    }
    while extra > 0 {
        let rank = |one: &&Standing<'_>| {
            let load = one.place.map_or(0, |place| places[place].used);
            (
                on[&one.place] > 1,
                !one.is_ready(),
                one.replica.placed_at,
                load,
                one.replica.id,
            )
        };
        let Some(index) = (0..decision.good.len()).max_by_key(|index| rank(&decision.good[*index])) else {
            return;
        };
        let gone = decision.good.swap_remove(index);
        let is_shared = on[&gone.place] > 1;
        on.entry(gone.place).and_modify(|count| *count -= 1);
        let because = if is_shared && wanted > 0 {
            format!("{} wanted, and another one of it is on that node", are(wanted))
        } else {
            format!("{} wanted", are(wanted))
        };
        stop(places, gone, because, plan);
        extra -= 1;
    }
}

fn are(count: u32) -> String {
    match count {
        0 => "none is".to_owned(),
        1 => "only 1 is".to_owned(),
        _ => format!("only {count} are"),
    }
}

/// How many are to be placed, and why each.
fn need(world: &World<'_>, decision: &mut Decision<'_>, plan: &mut Plan) {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let (good, others) = (number(decision.good.len()), number(decision.others.len()));
    let missing = decision.wanted.saturating_sub(good);
    let rollout = &decision.agent.placement.rollout;
    let surge = if rollout.unavailable == 0 {
        rollout.surge.max(1)
    } else {
        rollout.surge
    };
    let room = decision
        .wanted
        .saturating_add(surge)
        .saturating_sub(good.saturating_add(others));
    decision.needs = if others == 0 { missing } else { missing.min(room) };
    for one in decision.lost.iter().chain(&decision.leaving) {
        if let Fate::Lost(why) | Fate::Leaves(why) = &one.fate {
            decision.reasons.push_back((one.place, why.clone()));
        }
    }
    let is_settled = missing == 0 && others == 0 && decision.lost.is_empty() && decision.leaving.is_empty();
    let shares = decision.on_places.values().any(|count| *count > 1);
    if is_settled && shares && good == decision.wanted && decision.good.iter().all(|one| one.is_ready()) {
        match decision.kept.retry_at.filter(|at| *at > world.now) {
            Some(at) => plan.due(at),
            None => decision.only_apart = true,
        }
    }
}

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
    let key = (decision.agent.tenant.clone(), decision.agent.agent.clone());
    let before = world.kept.agents.get(&key);
    let is_new = before.is_none() && decision.kept != KeptAgent::default();
    if is_new || before.is_some_and(|before| *before != decision.kept) {
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

fn stop(places: &[Place<'_>], standing: &Standing<'_>, because: String, plan: &mut Plan) {
    let label = standing.place.map_or("", |place| places[place].label);
    plan.actions.push(words::stop(standing.replica, label, because));
    plan.changes.stop(standing.replica);
}
