//! Figures that are read when somebody looks: what is open, who owns what, how far the relay is; and who waits, which
//! the lanes are asked for every few seconds.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use mesh_runtime::MetricName;
use mesh_runtime::metrics::Told;
use mesh_types::{AgentName, Tenant, Timestamp};
use tokio::sync::oneshot;

use super::agents::{NAMED_MAX, OTHER};
use crate::directory::Owner;
use crate::lane::command::Command;
use crate::lane::queues::Queue;
use crate::shards::SHARDS;
use crate::state::State;

const QUEUES_EVERY: Duration = Duration::from_secs(5);
/// A lane that waits for the database does not answer; what it said last stands.
const LANE_DEADLINE: Duration = Duration::from_secs(2);
const STATES: [&str; 3] = ["queued", "running", "waiting"];

/// Registers what is read of the service while it lives.
pub(crate) fn observe(state: &Arc<State>) {
    let metrics = &state.context.metrics;
    let read = |name: MetricName, read: fn(&State, &mut Told<'_>)| {
        let state: Weak<State> = Arc::downgrade(state);
        metrics.observe(name, move |told| {
            if let Some(state) = state.upgrade() {
                read(&state, told);
            }
        });
    };
    read(MetricName::InvocationsOpen, open);
    read(MetricName::WorkersBusy, |state, told| told.count(state.running(), &[]));
    read(MetricName::CommandsWaiting, |state, told| {
        let lanes = state.lanes.iter().map(|lane| lane.gauges.waiting());
        told.count(lanes.sum::<usize>(), &[]);
    });
    read(MetricName::ShardsOwned, |state, told| {
        told.count(owned(state).count(), &[])
    });
    read(MetricName::RelayLag, |state, told| {
        told.tell(owned(state).map(|shard| state.marks.lag(shard)).sum(), &[]);
    });
    read(MetricName::QueueWaiting, |state, told| {
        for ((tenant, agent), queue) in &queues(state) {
            told.count(queue.waiting, &[("tenant", tenant), ("agent", agent)]);
        }
    });
    read(MetricName::QueueAge, |state, told| {
        let now = state.context.clock.now();
        for ((tenant, agent), queue) in &queues(state) {
            let waits = queue.since.map_or(Duration::ZERO, |since| now.since(since));
            told.count(waits.as_secs(), &[("tenant", tenant), ("agent", agent)]);
        }
    });
}

fn open(state: &State, told: &mut Told<'_>) {
    for (place, name) in STATES.iter().enumerate() {
        let lanes = state.lanes.iter().map(|lane| &lane.gauges.states[place]);
        let count: usize = lanes.map(|count| count.load(Ordering::Relaxed)).sum();
        told.count(count, &[("state", name)]);
    }
}

fn owned(state: &State) -> impl Iterator<Item = u16> {
    (0..SHARDS).filter(|shard| state.directory.owner(*shard) == Owner::Here)
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Waits {
    waiting: u64,
    since: Option<Timestamp>,
}

/// Of all lanes, by tenant and agent: those with the longest queues by name, the rest together.
fn queues(state: &State) -> BTreeMap<(String, String), Waits> {
    let lanes = state.figures.queues.lock().unwrap_or_else(PoisonError::into_inner);
    bounded(lanes.iter().flatten())
}

fn bounded<'a>(queues: impl Iterator<Item = &'a Queue>) -> BTreeMap<(String, String), Waits> {
    let mut sums: BTreeMap<(&Tenant, &AgentName), Waits> = BTreeMap::new();
    for queue in queues {
        let sum = sums.entry((&queue.tenant, &queue.agent)).or_default();
        sum.add(queue.waiting, queue.since);
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, waits)| std::cmp::Reverse(waits.waiting));
    let mut told: BTreeMap<(String, String), Waits> = BTreeMap::new();
    for (place, ((tenant, agent), waits)) in sums.into_iter().enumerate() {
        let name = if place < NAMED_MAX {
            (tenant.to_string(), agent.to_string())
        } else {
            (OTHER.to_owned(), OTHER.to_owned())
        };
        told.entry(name).or_default().add(waits.waiting, waits.since);
    }
    told
}

impl Waits {
    fn add(&mut self, waiting: u64, since: Option<Timestamp>) {
        self.waiting += waiting;
        self.since = self.since.into_iter().chain(since).min();
    }
}

/// Asks the lanes what waits, until the shutdown.
pub(crate) async fn watch_queues(state: Arc<State>) {
    loop {
        for (place, lane) in state.lanes.iter().enumerate() {
            let (answer, answered) = oneshot::channel();
            if lane.send(Command::Queues(answer)).is_err() {
                // It has ended: nothing waits there any more.
                state.figures.set_queues(place, Vec::new());
            } else if let Ok(Ok(queues)) = tokio::time::timeout(LANE_DEADLINE, answered).await {
                state.figures.set_queues(place, queues);
            }
        }
        tokio::select! {
            () = state.context.shutdown.cancelled() => return,
            () = tokio::time::sleep(QUEUES_EVERY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(agent: &str, waiting: u64, since: i64) -> Queue {
        Queue {
            tenant: Tenant::default(),
            agent: agent.parse().unwrap(),
            waiting,
            since: Some(Timestamp::from_millis(since)),
        }
    }

    #[test]
    fn the_longest_queues_have_names_and_the_others_are_one() {
        let mut all: Vec<_> = (0..NAMED_MAX + 2)
            .map(|n| queue(&format!("a{n}"), 2 + n as u64, 50))
            .collect();
        // Of another lane.
        all.push(queue("a250", 900, 20));
        all.push(queue("a0", 1, 7));
        let told = bounded(all.iter());
        assert_eq!(told.len(), NAMED_MAX + 1);
        let of = |agent: &str, tenant: &str| told.get(&(tenant.to_owned(), agent.to_owned())).copied();
        assert_eq!(of("a250", "default").unwrap().waiting, 900);
        let others = of(OTHER, OTHER).unwrap();
        // a0 (2 + 1), a1 and a2.
        assert_eq!(others.waiting, 3 + 3 + 4);
        assert_eq!(others.since, Some(Timestamp::from_millis(7)));
    }
}
