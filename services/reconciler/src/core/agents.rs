//! Each agent's numbers: which version is meant, how many replicas to place and which to stop, where its new
//! invocations go, and back when a version fails its health.

use std::collections::{HashMap, VecDeque};

use mesh_api::execution::AgentDemand;
use mesh_api::fleet::PlacedAgent;
use mesh_types::fleet::ReplicaState;

use super::kept::{KeptAgent, Version};
use super::nodes::Place;
use super::replicas::{Fate, Standing};
use super::settle::stop;
use super::{Plan, World, scale, versions};

/// What one agent needs of this pass.
pub(super) struct Decision<'s> {
    pub(super) agent: &'s PlacedAgent,
    pub(super) wanted: u32,
    pub(super) target: Version,
    pub(super) kept: KeptAgent,
    /// As it was before this pass.
    pub(super) before: Option<&'s KeptAgent>,
    /// Of the version that is meant, where they may stay.
    pub(super) good: Vec<&'s Standing<'s>>,
    /// Of other versions.
    pub(super) others: Vec<&'s Standing<'s>>,
    pub(super) leaving: Vec<&'s Standing<'s>>,
    pub(super) lost: Vec<&'s Standing<'s>>,
    /// How many to place, and why each.
    pub(super) needs: u32,
    pub(super) reasons: VecDeque<(Option<usize>, String)>,
    /// It has what it needs, and two of it share a node: one more is placed if another node is free of it.
    pub(super) only_apart: bool,
    /// Its replicas by place, also such that stop: a few, so that looking through them beats hashing.
    pub(super) on_places: Vec<(usize, u32)>,
    /// Where the new ones go.
    pub(super) placed: Vec<usize>,
    /// How many of them are in the plan.
    pub(super) arriving: u32,
    /// Why there are fewer than needed.
    pub(super) refused: String,
}

impl Decision<'_> {
    /// One more of it at that place.
    pub(super) fn count_on(&mut self, place: usize) {
        match self.on_places.iter_mut().find(|(known, _)| *known == place) {
            Some((_, count)) => *count += 1,
            None => self.on_places.push((place, 1)),
        }
    }

    pub(super) fn is_on(&self, place: usize) -> bool {
        self.on_places.iter().any(|(known, _)| *known == place)
    }

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
    // Both are sorted: one walk beside them finds what is kept of each.
    let mut known = world.kept.agents.iter().peekable();
    agents
        .map(|(agent, own)| {
            let name = (&agent.tenant, &agent.agent);
            while known.next_if(|((tenant, agent), _)| (tenant, agent) < name).is_some() {}
            let before = known
                .next_if(|((tenant, agent), _)| (tenant, agent) == name)
                .map(|(_, kept)| kept);
            let mut kept = before.cloned().unwrap_or_default();
            let rate = rates.get(&name).copied().unwrap_or_default();
            let wanted = scale::wanted(world, agent, demands.get(&name).copied(), rate, &mut kept, plan);
            let mut decision = Decision {
                agent,
                wanted,
                target: Version::published(agent),
                kept,
                before,
                good: Vec::new(),
                others: Vec::new(),
                leaving: Vec::new(),
                lost: Vec::new(),
                needs: 0,
                reasons: VecDeque::new(),
                only_apart: false,
                on_places: Vec::new(),
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
    versions::choose_target(world, decision, plan);
    let mut staying = Vec::new();
    for standing in own {
        if let Some(place) = standing.place.filter(|_| !standing.is_gone()) {
            decision.count_on(place);
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
        .filter_map(|one| versions::failure(world, places, one, decision.agent, plan).map(|why| (*one, why)))
        .collect();
    let is_proven = staying
        .iter()
        .chain(&decision.leaving)
        .any(|one| is_target(one, &decision.target) && one.is_ready());
    let is_back = match failing.first() {
        Some((_, why)) if !is_proven => versions::roll_back(world, decision, why, plan),
        _ => false,
    };
    let (good, others) = staying.into_iter().partition(|one| is_target(one, &decision.target));
    (decision.good, decision.others) = (good, others);
    if !is_back {
        versions::replace_failing(world, places, decision, failing, plan);
    }
    versions::serve(world, places, decision, plan);
    versions::stop_others(places, decision, plan);
    versions::conclude(decision);
    stop_extra(places, decision, plan);
    need(world, decision, plan);
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
    // What is lost or leaves goes in this pass, as nothing is missing.
    let is_whole = missing == 0 && others == 0 && good == decision.wanted;
    let mut on: Vec<Option<usize>> = decision.good.iter().map(|one| one.place).collect();
    on.sort_unstable();
    let shares = on.windows(2).any(|two| two[0] == two[1]);
    if is_whole && shares && decision.good.iter().all(|one| one.is_ready()) {
        match decision.kept.retry_at.filter(|at| *at > world.now) {
            Some(at) => plan.due(at),
            None => {
                decision.only_apart = true;
                decision.reasons.clear();
            }
        }
    }
}
