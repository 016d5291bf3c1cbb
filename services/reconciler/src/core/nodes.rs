//! Nodes as places: there or lost, deaf, on their way out, steady enough to be given something new, and with what room.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use mesh_api::fleet::{NodeEntry, PlacedAgent};
use mesh_api::heartbeat::{ObservedNode, SILENT_INTERVALS_MAX};
use mesh_types::fleet::{Heartbeat, NodeMode};
use mesh_types::{NodeId, Timestamp, fleet_policy};

use super::kept::KeptNode;
use super::{Plan, World, words};

/// How long a node that the registry forgot is remembered, so that its assignment's generation never goes back.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(7 * 24 * 3_600);

/// What becomes of the replicas that a node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    Fine,
    /// There, and to be emptied: its replicas go when others are ready.
    Leaving(String),
    /// There, but it does not take on what it is told.
    Deaf(String),
    Lost(String),
}

/// A node of this pass.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) entry: &'a NodeEntry,
    observed: Option<&'a ObservedNode>,
    /// How people know it.
    pub(super) label: &'a str,
    pub(super) kept: KeptNode,
    pub(super) mode: NodeMode,
    pub(super) condition: Condition,
    /// Why it is given nothing new, for a list of reasons.
    pub(super) closed: Option<&'static str>,
    pub(super) slots: u32,
    /// Slots that replicas have, also such that stop.
    pub(super) used: u32,
}

impl Place<'_> {
    pub(super) fn is_alive(&self) -> bool {
        self.observed.is_some_and(|observed| observed.alive)
    }

    pub(super) fn heartbeat(&self) -> Option<&Heartbeat> {
        self.observed.and_then(|observed| observed.heartbeat.as_ref())
    }

    /// Whether it has taken on its assignment as it stands.
    pub(super) fn has_heard(&self) -> bool {
        self.heartbeat()
            .is_some_and(|beat| beat.assignment >= self.kept.generation)
    }

    pub(super) fn is_foreign(&self, agent: &PlacedAgent) -> bool {
        let owner = agent.owner.as_deref().unwrap_or(fleet_policy::DEVELOPER);
        agent.tenant != self.entry.tenant || owner != self.entry.owner
    }

    /// Whether one more replica of such an agent fits.
    pub(super) fn has_room(&self, agent: &PlacedAgent) -> bool {
        // How many invocations of others run at the same time is seen to where they are claimed.
        let lets_others = self.entry.configuration.sharing.invocations_max != Some(0);
        self.used < self.slots && (lets_others || !self.is_foreign(agent))
    }

    pub(super) fn take(&mut self) {
        self.used = self.used.saturating_add(1);
    }

    /// Whether the node may run the agent, whatever its version asks for.
    pub(super) fn serves(&self, agent: &PlacedAgent) -> Result<(), &'static str> {
        let facts = fleet_policy::NodeFacts {
            mode: self.mode,
            ..self.entry.facts()
        };
        fleet_policy::serves(facts, agent.facts())
    }

    /// Whether the node may and can run the agent's published version; if not, why.
    pub(super) fn suits(&self, agent: &PlacedAgent) -> Result<(), &'static str> {
        self.serves(agent)?;
        let has_label = |(key, value): (&String, &String)| self.entry.labels.get(key) == Some(value);
        if !agent.placement.node_selector.iter().all(has_label) {
            return Err("the node lacks a label of its selector");
        }
        if !agent
            .requires
            .iter()
            .all(|wanted| self.entry.capabilities.contains(wanted))
        {
            return Err("the node lacks a capability that it requires");
        }
        Ok(())
    }
}

/// All registered nodes, in their order.
pub(super) fn places<'a>(world: &World<'a>, plan: &mut Plan) -> Vec<Place<'a>> {
    let mut names: HashMap<&str, u32> = HashMap::with_capacity(world.seen.nodes.len());
    for node in &world.seen.nodes {
        *names.entry(node.entry.name.as_str()).or_default() += 1;
    }
    let nodes = world.seen.nodes.iter();
    nodes
        .map(|seen| {
            let entry = &seen.entry;
            let is_name_clear = !entry.name.is_empty() && names.get(entry.name.as_str()) == Some(&1);
            let label = if is_name_clear {
                &entry.name
            } else {
                entry.node_id.as_str()
            };
            let beat = seen.observed.as_ref().and_then(|observed| observed.heartbeat.as_ref());
            let mut place = Place {
                entry,
                observed: seen.observed.as_ref(),
                label,
                kept: world.kept.nodes.get(&entry.node_id).cloned().unwrap_or_default(),
                mode: narrower(entry.configuration.mode, beat.map(|beat| beat.mode)),
                condition: Condition::Fine,
                closed: None,
                slots: beat.map_or(entry.slots, |beat| beat.slots),
                used: 0,
            };
            watch(world, &mut place, plan);
            judge(world, &mut place, plan);
            place
        })
        .collect()
}

/// Until registry and node say the same, the one that lets in fewer counts.
fn narrower(registered: NodeMode, reported: Option<NodeMode>) -> NodeMode {
    let width = |mode: &NodeMode| match mode {
        NodeMode::Sleep => 0,
        NodeMode::Private => 1,
        NodeMode::Shared => 2,
    };
    reported.map_or(registered, |reported| std::cmp::min_by_key(registered, reported, width))
}

/// Follows whether it is there and whether it hears.
fn watch(world: &World<'_>, place: &mut Place<'_>, plan: &mut Plan) {
    let alive_since = place
        .observed
        .filter(|observed| observed.alive)
        .map(|observed| observed.since);
    let has_heard = place.has_heard();
    let kept = &mut place.kept;
    let was_lost = match (kept.alive_since, alive_since) {
        (Some(_), None) => true,
        // Gone and back between two passes. A small step is the same life, told more exactly.
        (Some(before), Some(now)) => now.since(before) >= world.settings.stable / 2,
        (None, _) => false,
    };
    if was_lost {
        note_loss(world, kept);
    }
    if kept.alive_since != alive_since {
        kept.alive_since = alive_since;
        kept.steady_since = alive_since;
    }
    let Some(alive_since) = alive_since else {
        return;
    };
    if has_heard {
        kept.unheard_since = None;
        if kept.deaf_since.take().is_some() {
            kept.steady_since = Some(world.now);
        }
        return;
    }
    plan.unheard.push(place.entry.node_id.clone());
    // A node that was started again has heard before, and begins anew: it has as long as after a change.
    let unheard_since = *kept.unheard_since.get_or_insert(world.now);
    let told_at = unheard_since.max(alive_since).max(world.since);
    let deaf_at = told_at.plus(world.settings.deaf_after);
    if kept.deaf_since.is_none() && deaf_at <= world.now {
        kept.deaf_since = Some(world.now);
        note_loss(world, kept);
    } else if kept.deaf_since.is_none() {
        plan.due(deaf_at);
    }
}

fn note_loss(world: &World<'_>, kept: &mut KeptNode) {
    kept.losses = recent_losses(world, kept).saturating_add(1);
    kept.lost_at = Some(world.now);
}

fn recent_losses(world: &World<'_>, kept: &KeptNode) -> u32 {
    let is_recent = |at: Timestamp| world.now.since(at) < world.settings.flap_window;
    if kept.lost_at.is_some_and(is_recent) {
        kept.losses
    } else {
        0
    }
}

/// How long a node may be silent, by the interval that its last heartbeat said.
fn silence_max(beat: &Heartbeat) -> Duration {
    let seconds = beat.interval_seconds * f64::from(SILENT_INTERVALS_MAX);
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// What follows for its replicas, and for new ones.
fn judge(world: &World<'_>, place: &mut Place<'_>, plan: &mut Plan) {
    let (label, now) = (place.label, world.now);
    let Some(observed) = place.observed.filter(|observed| observed.alive) else {
        let why = match place.observed {
            Some(observed) => {
                let limit = observed.heartbeat.as_ref().map(silence_max);
                let limit = limit.map(|limit| format!(" (limit {})", words::span(limit)));
                let silent = words::time(observed.last_seen_at, now);
                format!("{label} has been silent for {silent}{}", limit.unwrap_or_default())
            }
            None => format!("{label} was never seen"),
        };
        (place.condition, place.closed) = (Condition::Lost(why), Some("not there"));
        return;
    };
    if let Some(since) = place.kept.deaf_since {
        let why = format!(
            "{label} has been deaf for {}: it sends heartbeats, but does not take on its assignment",
            words::time(since, now)
        );
        (place.condition, place.closed) = (Condition::Deaf(why), Some("deaf"));
    } else if place.mode == NodeMode::Sleep {
        (place.condition, place.closed) = (Condition::Leaving(format!("{label} sleeps")), Some("asleep"));
    } else if place.entry.drained {
        (place.condition, place.closed) = (Condition::Leaving(format!("{label} is drained")), Some("drained"));
    } else if observed.heartbeat.as_ref().is_some_and(|beat| beat.draining) {
        (place.condition, place.closed) = (
            Condition::Leaving(format!("{label} is about to stop")),
            Some("stopping"),
        );
    } else if observed.heartbeat.is_none() {
        place.closed = Some("without a heartbeat yet");
    } else if let Some(at) = unsteady_until(world, &place.kept) {
        plan.due(at);
        place.closed = Some("back only just");
    }
}

/// When a node that was lost is trusted again; `None`: it is.
fn unsteady_until(world: &World<'_>, kept: &KeptNode) -> Option<Timestamp> {
    let losses = recent_losses(world, kept);
    let doublings = losses.checked_sub(1)?;
    let settings = world.settings;
    let pause = settings
        .stable
        .saturating_mul(1 << doublings.min(16))
        .min(settings.stable_max);
    let until = kept.steady_since?.plus(pause);
    (until > world.now).then_some(until)
}

/// Drops the memory of nodes that the registry forgot long ago.
pub(super) fn forget(world: &World<'_>, places: &[Place<'_>], plan: &mut Plan) {
    if world.kept.nodes.len() + plan.changes.nodes.len() <= places.len() {
        return;
    }
    let registered: HashSet<&NodeId> = places.iter().map(|place| &place.entry.node_id).collect();
    let told: HashSet<&NodeId> = plan.changes.nodes.iter().map(|(node, _)| node).collect();
    let is_old = |kept: &KeptNode| kept.changed_at.is_none_or(|at| world.now.since(at) >= FORGOTTEN_AFTER);
    let gone = world
        .kept
        .nodes
        .iter()
        .filter(|(node, kept)| !registered.contains(node) && !told.contains(node) && is_old(kept));
    plan.changes.forgotten = gone.map(|(node, _)| node.clone()).collect();
}
