//! Where replicas go: the least loaded node that may run them and has none of the agent yet. Agents that ask for the
//! same kind of node share one queue of nodes, so that a plan for many agents looks at each node a few times only.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use mesh_api::fleet::PlacedAgent;
use mesh_types::AgentName;
use mesh_types::agent::Spread;

use super::World;
use super::agents::Decision;
use super::nodes::Place;

const REGION: &str = "region";

/// What agents must have in common to share a queue.
#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
struct Kind<'a> {
    tenant: &'a str,
    owner: Option<&'a str>,
    /// Only where some node's sharing names this agent.
    named: Option<&'a AgentName>,
    selector: &'a BTreeMap<String, String>,
    requires: &'a [String],
    by_region: bool,
}

/// Finds places for all that is needed: first one for each agent that has nothing, then the others.
pub(super) fn place<'s>(world: &World<'s>, places: &mut [Place<'_>], decisions: &mut [Decision<'s>]) {
    let asking = |decision: &Decision<'_>| decision.needs > 0 || decision.only_apart;
    if !decisions.iter().any(asking) {
        return;
    }
    let shared = world.seen.nodes.iter();
    let named: HashSet<&AgentName> = shared
        .flat_map(|node| &node.entry.configuration.sharing.agents)
        .collect();
    let mut all: Vec<(Kind<'s>, usize)> = Vec::new();
    for (index, decision) in decisions.iter().enumerate().filter(|(_, decision)| asking(decision)) {
        all.push((kind(decision.agent, &named), index));
    }
    all.sort_unstable();
    let (bare, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, index)| decisions[*index].is_bare());
    for (round, most) in [(&bare, 1), (&bare, u32::MAX), (&others, u32::MAX)] {
        for group in round.chunk_by(|a, b| a.0 == b.0) {
            let mut pool = Pool::new(places, decisions[group[0].1].agent);
            for (_, index) in group {
                pool.serve(places, &mut decisions[*index], most);
            }
        }
    }
}

fn kind<'a>(agent: &'a PlacedAgent, named: &HashSet<&AgentName>) -> Kind<'a> {
    Kind {
        tenant: agent.tenant.as_str(),
        owner: agent.owner.as_deref(),
        named: Some(&agent.agent).filter(|name| named.contains(name)),
        selector: &agent.placement.node_selector,
        requires: &agent.requires,
        by_region: agent.placement.spread == Spread::Region,
    }
}

/// Nodes that may run agents of one kind, by region and load; a load may be out of date, it only ever grows.
struct Pool {
    regions: Vec<Region>,
    /// Region of each place that is in it.
    region_of: HashMap<usize, usize>,
    /// Why the others are not in it, and how many each.
    refused: BTreeMap<&'static str, u32>,
    by_region: bool,
}

#[derive(Default)]
struct Region {
    queue: BinaryHeap<Reverse<(u64, usize)>>,
}

impl Pool {
    fn new(places: &[Place<'_>], agent: &PlacedAgent) -> Self {
        let mut pool = Self {
            regions: Vec::new(),
            region_of: HashMap::new(),
            refused: BTreeMap::new(),
            by_region: agent.placement.spread == Spread::Region,
        };
        let mut regions: BTreeMap<&str, Vec<Reverse<(u64, usize)>>> = BTreeMap::new();
        for (index, place) in places.iter().enumerate() {
            if let Some(why) = place.suits(agent).err().or(place.closed) {
                *pool.refused.entry(why).or_default() += 1;
                continue;
            }
            let region = place.entry.labels.get(REGION).filter(|_| pool.by_region);
            let region = region.map_or("", String::as_str);
            regions.entry(region).or_default().push(Reverse((load(place), index)));
        }
        for nodes in regions.into_values() {
            let region = pool.regions.len();
            pool.region_of
                .extend(nodes.iter().map(|Reverse((_, index))| (*index, region)));
            pool.regions.push(Region { queue: nodes.into() });
        }
        pool
    }

    /// Gives the agent what it needs, at most so many.
    fn serve(&mut self, places: &mut [Place<'_>], decision: &mut Decision<'_>, most: u32) {
        let wanted = decision.needs.max(u32::from(decision.only_apart));
        let already = u32::try_from(decision.placed.len()).unwrap_or(u32::MAX);
        for _ in already..wanted.min(most) {
            let apart = self.apart(places, decision);
            let found = apart.or_else(|| self.beside(places, decision).filter(|_| !decision.only_apart));
            let Some(index) = found else {
                decision.refused = self.explain();
                return;
            };
            places[index].take();
            decision.count_on(index);
            decision.placed.push(index);
        }
    }

    /// The best node that has none of the agent: in the region with the fewest of it, the least loaded.
    fn apart(&mut self, places: &[Place<'_>], decision: &Decision<'_>) -> Option<usize> {
        let mut counts = vec![0_u32; self.regions.len()];
        for (place, count) in decision.on_places.iter().filter(|_| self.by_region) {
            if let Some(region) = self.region_of.get(place) {
                counts[*region] += count;
            }
        }
        let mut order: Vec<usize> = (0..self.regions.len()).collect();
        order.sort_by_key(|region| counts[*region]);
        let mut best: Option<(u32, u64, usize)> = None;
        for region in order {
            if best.is_some_and(|(count, ..)| count < counts[region]) {
                break;
            }
            let found = self.regions[region].first_free(places, decision);
            let candidate = found.map(|(load, index)| (counts[region], load, index));
            best = best.into_iter().chain(candidate).min();
        }
        best.map(|(_, _, index)| index)
    }

    /// Where nothing else has room: a node that has fewest of the agent.
    fn beside(&self, places: &[Place<'_>], decision: &Decision<'_>) -> Option<usize> {
        let own = decision.on_places.iter();
        own.filter(|(index, _)| self.region_of.contains_key(index) && places[*index].has_room(decision.agent))
            .map(|(index, count)| (*count, load(&places[*index]), *index))
            .min()
            .map(|(_, _, index)| index)
    }

    fn explain(&self) -> String {
        let mut reasons: Vec<String> = self
            .refused
            .iter()
            .map(|(why, count)| format!("{count}: {why}"))
            .collect();
        let full = self.region_of.len();
        if full > 0 {
            reasons.push(format!("{full}: full"));
        }
        if reasons.is_empty() {
            return "no node is registered".to_owned();
        }
        format!("no node has room for it ({})", reasons.join("; "))
    }
}

impl Region {
    /// The least loaded node with room and none of the agent; it stays in the queue.
    fn first_free(&mut self, places: &[Place<'_>], decision: &Decision<'_>) -> Option<(u64, usize)> {
        let mut skipped = Vec::new();
        let mut found = None;
        while let Some(Reverse((known, index))) = self.queue.pop() {
            let place = &places[index];
            if !place.has_room(decision.agent) {
                continue;
            }
            let now = load(place);
            if now != known {
                self.queue.push(Reverse((now, index)));
                continue;
            }
            skipped.push(Reverse((known, index)));
            if !decision.is_on(index) {
                found = Some((known, index));
                break;
            }
        }
        self.queue.extend(skipped);
        found
    }
}

/// Used slots in millionths of all.
fn load(place: &Place<'_>) -> u64 {
    u64::from(place.used) * 1_000_000 / u64::from(place.slots.max(1))
}
