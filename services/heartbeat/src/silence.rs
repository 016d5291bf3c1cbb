//! Who fell silent: named by the marker of an expired key, checked when three intervals have passed since its last
//! heartbeat, and lost by one conditional update. A look at the table now and then finds those whose marker was missed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_bus::Bucket;
use mesh_runtime::{Doorbell, PassReport};
use mesh_store::every_tenant_tx;
use mesh_types::{NodeId, Timestamp};

use crate::flush;
use crate::report::{Beat, INTERVALS};
use crate::state::State;
use crate::store::life;

/// Until then another process that hears the node has written its key again.
const OTHERS_WRITE: Duration = Duration::from_millis(250);
/// Nodes of one pass, and of one look at the table.
const BATCH: usize = 500;
/// Nothing is due for so long that it need not be said exactly.
const NOTHING_DUE: Duration = Duration::from_secs(3_600);

/// Nodes to be looked at, by the time when. Each has lost its key, so there are no more than nodes.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    due: Mutex<BinaryHeap<Reverse<(Timestamp, NodeId)>>>,
    /// Rings when the earliest is another.
    changed: Doorbell,
    /// Rings when one is due.
    pub(crate) bell: Doorbell,
}

impl Suspects {
    /// Its key is gone; `beat` is the newest that this process heard of it.
    pub(crate) fn add(&self, node: NodeId, beat: Option<&Beat>, now: Timestamp) {
        let overdue = beat.map_or(now, |beat| beat.at.plus(beat.ttl()));
        self.look_at(node, overdue.max(now.plus(OTHERS_WRITE)));
    }

    fn look_at(&self, node: NodeId, at: Timestamp) {
        self.lock().push(Reverse((at, node)));
        self.changed.ring();
    }

    fn take_due(&self, now: Timestamp) -> Vec<NodeId> {
        let mut due = self.lock();
        let mut taken = Vec::new();
        while taken.len() < BATCH && due.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            taken.extend(due.pop().map(|Reverse((_, node))| node));
        }
        drop(due);
        self.changed.ring();
        taken.sort_unstable();
        taken.dedup();
        taken
    }

    fn earliest(&self) -> Option<Timestamp> {
        self.lock().peek().map(|Reverse((at, _))| *at)
    }

    fn lock(&self) -> MutexGuard<'_, BinaryHeap<Reverse<(Timestamp, NodeId)>>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rings when the earliest is due.
pub(crate) async fn wake(state: Arc<State>) {
    let suspects = &state.suspects;
    loop {
        let left = suspects.earliest().map(|at| at.since(state.now()));
        let turn = async {
            match left {
                // Whoever takes it rings.
                Some(Duration::ZERO) => {
                    suspects.bell.ring();
                    suspects.changed.rung().await;
                }
                Some(left) => drop(suspects.changed.wait(left).await),
                None => drop(suspects.changed.wait(NOTHING_DUE).await),
            }
        };
        tokio::select! {
            () = turn => {}
            () = state.context.shutdown.cancelled() => return,
        }
    }
}

/// What a pass remembers of the ones before it.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    at: Option<Timestamp>,
}

pub(crate) async fn pass(state: Arc<State>, swept: Arc<tokio::sync::Mutex<Swept>>) -> PassReport {
    let mut swept = swept.lock().await;
    let now = state.now();
    let suspects = state.suspects.take_due(now);
    let (mut silent, heard) = sort_out(&state, suspects.clone(), now);
    let mut error = None;
    let sweep_every = Duration::from_millis(state.config.sweep_ms);
    if swept.at.is_none_or(|at| now.since(at) >= sweep_every) {
        match sweep(&state, now).await {
            Ok(missed) => {
                silent.extend(missed);
                swept.at = Some(now);
            }
            Err(failed) => error = Some(failed),
        }
    }
    let lost = match lose(&state, &silent, now).await {
        Ok(lost) => lost,
        Err(failed) => {
            // Looked at again, a little later.
            for node in silent {
                state.suspects.look_at(node, now.plus(OTHERS_WRITE));
            }
            error = Some(failed.to_string());
            0
        }
    };
    for (node, at) in heard {
        state.suspects.look_at(node, at);
    }
    PassReport { plan_size: lost, error }
}

/// Nodes whose silence is too long by what this process knows; and those that it heard later than their key says.
fn sort_out(state: &State, suspects: Vec<NodeId>, now: Timestamp) -> (Vec<NodeId>, Vec<(NodeId, Timestamp)>) {
    let nodes = state.nodes();
    let (mut silent, mut heard) = (Vec::new(), Vec::new());
    for node in suspects {
        if nodes.has_key(&node) {
            continue;
        }
        match nodes.get(&node).0.map(|beat| beat.at.plus(beat.ttl())) {
            Some(overdue) if overdue > now => heard.push((node, overdue)),
            _ => silent.push(node),
        }
    }
    (silent, heard)
}

/// Overdue by the table, and without a key: those of whom no marker was seen.
async fn sweep(state: &State, now: Timestamp) -> Result<Vec<NodeId>, String> {
    let count_max = i64::try_from(BATCH).unwrap_or(i64::MAX);
    // A marker of this very moment is on its way.
    let before = Timestamp::from_micros(now.as_micros() - 1_000_000);
    let overdue = life::overdue(&state.pool, before, state.hearing(), count_max).await;
    let overdue = overdue.map_err(|error| error.to_string())?;
    let mut missed = Vec::new();
    for node in overdue {
        let key = state.context.bus.kv_get(Bucket::Presence, &node).await;
        if key.map_err(|error| error.to_string())?.is_none()
            && let Ok(node) = node.parse::<NodeId>()
        {
            state.nodes().key_gone(&node);
            missed.push(node);
        }
    }
    Ok(missed)
}

/// Loses those that are silent by the table, too; the others are looked at when they will be.
async fn lose(state: &State, silent: &[NodeId], now: Timestamp) -> Result<usize, sqlx::Error> {
    if silent.is_empty() {
        return Ok(0);
    }
    let hearing = state.hearing();
    let mut tx = every_tenant_tx(&state.pool).await?;
    let lost = life::lose(&mut tx, silent, now, hearing).await?;
    let told = flush::announce(state, &mut tx, &lost).await?;
    tx.commit().await?;
    if told > 0 {
        state.relay_bell.ring();
    }
    for node in &lost {
        tracing::info!(node, "a node is lost");
    }
    let alive = life::due(&state.pool, silent).await?;
    for node in silent {
        match alive.iter().find(|(name, ..)| name == node.as_str()) {
            Some((_, overdue, ttl)) => {
                let heard = hearing.since.plus(*ttl / INTERVALS).plus(hearing.grace);
                let at = (*overdue).max(heard).max(now.plus(OTHERS_WRITE));
                state.suspects.look_at(node.clone(), at);
            }
            None => state.nodes().evict(node),
        }
    }
    Ok(lost.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::beat;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_suspect_is_looked_at_when_its_last_heartbeat_is_three_intervals_old() {
        let suspects = Suspects::default();
        let heard = beat("heard", 1, 1, 50_000);
        suspects.add("heard".parse().unwrap(), Some(&heard), at(60_000));
        suspects.add("unheard".parse().unwrap(), None, at(60_000));
        assert_eq!(suspects.earliest(), Some(at(60_250)));
        assert!(suspects.take_due(at(60_249)).is_empty());
        let names = |nodes: Vec<NodeId>| nodes.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(suspects.take_due(at(60_250))), ["unheard"]);
        assert_eq!(suspects.earliest(), Some(at(110_000)));
        assert_eq!(names(suspects.take_due(at(110_000))), ["heard"]);
        assert_eq!(suspects.earliest(), None);
    }
}
