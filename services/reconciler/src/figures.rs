//! Figures of the reconciler for `/metrics`: its passes, what differs, and the nodes, as the process that leads sees them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use mesh_api::reconciler::ActionKind;
use mesh_runtime::metrics::{BoundCounter, BoundHistogram, Told};
use mesh_runtime::{MetricName, Metrics};
use mesh_types::Timestamp;
use mesh_types::fleet::{NodeMode, ReplicaState};

use crate::core::{AgentKey, Kept, NodeSeen, Observation, Plan};
use crate::state::State;

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passed {
    Changed,
    Unchanged,
    /// Somebody did not answer: nothing was planned.
    Blind,
    /// The plan could not be made, kept or shown.
    Failed,
}

const OUTCOMES: [&str; 4] = ["changed", "unchanged", "blind", "failed"];
const DRIFTS: [&str; 5] = ["missing", "starting", "stopping", "failed", "unheard"];
const STATUSES: [&str; 6] = ["registered", "online", "offline", "deaf", "drained", "sleep"];

pub(crate) struct Figures {
    passes: Vec<BoundCounter>,
    duration: BoundHistogram,
    /// What the last pass of a leader saw; `None` in a process that does not lead.
    fleet: Mutex<Option<Fleet>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Fleet {
    /// As many as the words.
    nodes: [u64; STATUSES.len()],
    drift: [u64; DRIFTS.len()],
    /// Since when the oldest difference stands.
    drift_since: Option<Timestamp>,
    /// Since when replicas of an agent are missing.
    missing: HashMap<AgentKey, Timestamp>,
}

impl Figures {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let passes = metrics.counter(MetricName::ReconcilerPasses);
        Self {
            passes: OUTCOMES
                .iter()
                .map(|outcome| passes.bound(&[("outcome", outcome)]))
                .collect(),
            duration: metrics.histogram(MetricName::ReconcilerPassDuration).bound(&[]),
            fleet: Mutex::default(),
        }
    }

    pub(crate) fn passed(&self, passed: Passed, took: Duration) {
        if let Some(counter) = self.passes.get(passed as usize) {
            counter.add(1);
        }
        self.duration.record_duration(took);
    }

    /// After a pass: what was seen, what is remembered now, and what differs.
    pub(crate) fn saw(&self, now: Timestamp, seen: &Observation, kept: &Kept, plan: &Differences) {
        let mut fleet = self.fleet.lock().unwrap_or_else(PoisonError::into_inner);
        let before = fleet.take().unwrap_or_default();
        *fleet = Some(count(now, seen, kept, plan, &before));
    }

    /// Another process leads.
    pub(crate) fn forget(&self) {
        *self.fleet.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What a plan leaves undone.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    /// Agents with replicas for which there is no node.
    held: Vec<AgentKey>,
    unheard: Vec<mesh_types::NodeId>,
}

impl Differences {
    pub(crate) fn of(plan: &Plan) -> Self {
        let held = plan.actions.iter().filter(|action| action.kind == ActionKind::Hold);
        Self {
            held: held
                .filter_map(|action| action.tenant.clone().zip(action.agent.clone()))
                .collect(),
            unheard: plan.unheard.clone(),
        }
    }
}

fn count(now: Timestamp, seen: &Observation, kept: &Kept, plan: &Differences, before: &Fleet) -> Fleet {
    let mut fleet = Fleet::default();
    for node in &seen.nodes {
        fleet.nodes[status(node, kept)] += 1;
    }
    let mut differ = |kind: usize, since: Timestamp| {
        fleet.drift[kind] += 1;
        fleet.drift_since = Some(fleet.drift_since.map_or(since, |first| first.min(since)));
    };
    let mut missing = HashMap::new();
    for agent in &plan.held {
        let since = before.missing.get(agent).copied().unwrap_or(now);
        if missing.insert(agent.clone(), since).is_none() {
            differ(0, since);
        }
    }
    for replica in kept.replicas.values() {
        match replica.state {
            _ if replica.stopping => differ(2, replica.since),
            ReplicaState::Starting => differ(1, replica.since),
            ReplicaState::Stopping => differ(2, replica.since),
            ReplicaState::Failed => differ(3, replica.since),
            ReplicaState::Ready => {}
        }
    }
    for node in &plan.unheard {
        let since = kept.nodes.get(node).and_then(|kept| kept.unheard_since);
        differ(4, since.unwrap_or(now));
    }
    fleet.missing = missing;
    fleet
}

/// Its place among [`STATUSES`].
fn status(node: &NodeSeen, kept: &Kept) -> usize {
    let is_deaf = || {
        let kept = kept.nodes.get(&node.entry.node_id);
        kept.is_some_and(|kept| kept.deaf_since.is_some())
    };
    match &node.observed {
        None => 0,
        Some(observed) if !observed.alive => 2,
        Some(_) if node.entry.drained => 4,
        Some(_) if node.entry.configuration.mode == NodeMode::Sleep => 5,
        Some(_) if is_deaf() => 3,
        Some(_) => 1,
    }
}

/// Registers what is read of the service while it lives.
pub(crate) fn observe(state: &Arc<State>) {
    let metrics = &state.context.metrics;
    let leads: Weak<State> = Arc::downgrade(state);
    metrics.observe(MetricName::ReconcilerLeads, move |told| {
        if let Some(state) = leads.upgrade() {
            told.tell(i64::from(state.leads().is_some()), &[]);
        }
    });
    let read = |name: MetricName, read: fn(&Fleet, Timestamp, &mut Told<'_>)| {
        let state: Weak<State> = Arc::downgrade(state);
        metrics.observe(name, move |told| {
            let Some(state) = state.upgrade() else { return };
            let now = state.context.clock.now();
            let fleet = state.figures.fleet.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(fleet) = &*fleet {
                read(fleet, now, told);
            }
        });
    };
    read(MetricName::Nodes, |fleet, _, told| {
        for (status, count) in STATUSES.iter().zip(fleet.nodes) {
            told.count(count, &[("status", status)]);
        }
    });
    read(MetricName::ReconcilerDrift, |fleet, _, told| {
        for (kind, count) in DRIFTS.iter().zip(fleet.drift) {
            told.count(count, &[("kind", kind)]);
        }
    });
    read(MetricName::ReconcilerDriftAge, |fleet, now, told| {
        let stands = fleet.drift_since.map_or(Duration::ZERO, |since| now.since(since));
        told.count(stands.as_secs(), &[]);
    });
}

#[cfg(test)]
mod tests {
    use mesh_types::Tenant;

    use super::*;

    #[test]
    fn a_difference_is_as_old_as_its_first_pass_and_gone_with_its_last() {
        let at = Timestamp::from_millis;
        let agent: AgentKey = (Tenant::default(), "sofia".parse().unwrap());
        let held = Differences {
            held: vec![agent.clone(), agent],
            unheard: Vec::new(),
        };
        let (seen, kept) = (Observation::default(), Kept::default());
        let first = count(at(1_000), &seen, &kept, &held, &Fleet::default());
        assert_eq!((first.drift, first.drift_since), ([1, 0, 0, 0, 0], Some(at(1_000))));
        let second = count(at(9_000), &seen, &kept, &held, &first);
        assert_eq!(second.drift_since, Some(at(1_000)));
        let nothing = Differences::default();
        let third = count(at(10_000), &seen, &kept, &nothing, &second);
        assert_eq!(third, Fleet::default());
        let again = count(at(20_000), &seen, &kept, &held, &third);
        assert_eq!(again.drift_since, Some(at(20_000)));
    }
}
