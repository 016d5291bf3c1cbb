//! What an owner holds in memory: a cache of committed state, changed only after a commit.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use mesh_api::journal::Record;
use mesh_types::agent::AgentSpec;
use mesh_types::{InvocationId, Timestamp};
use tokio_util::sync::CancellationToken;

use super::command::Waiter;
use crate::core::ready::Ready;
use crate::core::{Meta, OpenRow, RunState};
use crate::hosted::Slot;
use crate::shards::ShardId;

/// A shard of ours, as far as it is committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) epoch: i64,
    pub(crate) batch: i64,
}

#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) meta: Arc<Meta>,
    pub(crate) row: OpenRow,
    /// Known since acceptance, or unread after a takeover.
    pub(crate) spec: Option<Arc<AgentSpec>>,
    /// The journal of one that was never claimed; empty afterwards and after a takeover.
    pub(crate) journal: Vec<Record>,
    /// The hosted worker that runs it, if one does.
    pub(crate) worker: Option<Worker>,
    pub(crate) waiters: Vec<Waiter>,
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) cancel: CancellationToken,
    /// Given back when the worker is dropped from memory.
    pub(crate) _slot: Slot,
}

#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) open: HashMap<InvocationId, Open>,
    pub(crate) ready: Ready,
    timers: BinaryHeap<Reverse<(Timestamp, InvocationId)>>,
}

/// Pause before an invocation whose worker let go is given out again, by claims so far, in milliseconds.
const RECLAIM_PAUSE_MS: [i64; 4] = [100, 500, 2_000, 10_000];

/// Timers that an open invocation has: its delay, its deadline, a pause.
const TIMERS_EACH: usize = 3;
const TIMERS_SPARE: usize = 1_024;

impl Memory {
    pub(crate) fn insert(&mut self, open: Open) {
        let id = open.meta.id;
        for at in [open.meta.wake_at, open.meta.deadline_at].into_iter().flatten() {
            self.timers.push(Reverse((at, id)));
        }
        self.open.insert(id, open);
    }

    /// It has ended.
    pub(crate) fn remove(&mut self, id: InvocationId) -> Option<Open> {
        let open = self.open.remove(&id);
        if self.timers.len() > TIMERS_SPARE + 2 * TIMERS_EACH * self.open.len() {
            // Mostly of ended ones, whose deadlines may lie far ahead: once in a while only the others are kept.
            let timers = std::mem::take(&mut self.timers).into_iter();
            let mut kept: Vec<_> = timers.filter(|Reverse((_, id))| self.open.contains_key(id)).collect();
            kept.sort_unstable();
            kept.dedup();
            self.timers = kept.into();
        }
        open
    }

    /// Looks at it again then.
    pub(crate) fn wake(&mut self, id: InvocationId, at: Timestamp) {
        self.timers.push(Reverse((at, id)));
    }

    /// Puts it into the queue if nothing keeps it from running.
    pub(crate) fn enqueue(&mut self, id: InvocationId, now: Timestamp) {
        let Some(open) = self.open.get(&id) else {
            return;
        };
        let is_awake = open.meta.wake_at.is_none_or(|at| at <= now);
        if is_awake && open.worker.is_none() {
            self.ready
                .push(open.meta.priority, &open.meta.tenant, &open.meta.agent, id);
        }
    }

    pub(crate) fn wait_for(&mut self, id: InvocationId, waiter: Waiter) {
        if let Some(open) = self.open.get_mut(&id) {
            open.waiters.retain(|waiter| !waiter.is_closed());
            open.waiters.push(waiter);
        }
    }

    /// A worker stopped without an end: it is runnable again after a pause.
    pub(crate) fn holder_gone(&mut self, id: InvocationId, epoch: u32, now: Timestamp) {
        let Some(open) = self.open.get_mut(&id).filter(|open| open.row.epoch == epoch) else {
            return;
        };
        open.worker = None;
        let step = (epoch as usize).saturating_sub(1).min(RECLAIM_PAUSE_MS.len() - 1);
        let at = Timestamp::from_micros(now.as_micros() + RECLAIM_PAUSE_MS[step] * 1_000);
        self.timers.push(Reverse((at, id)));
    }

    pub(crate) fn next_timer(&self) -> Option<Timestamp> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Invocations whose time has come; those that are runnable are queued, those past their deadline returned.
    pub(crate) fn fire_timers(&mut self, now: Timestamp) -> Vec<InvocationId> {
        let mut expired = Vec::new();
        while let Some(Reverse((at, id))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            let Some(open) = self.open.get(&id) else {
                continue;
            };
            if open.meta.deadline_at.is_some_and(|deadline| deadline <= now) {
                expired.push(id);
            } else {
                self.enqueue(id, now);
            }
        }
        expired
    }

    pub(crate) fn forget(&mut self, shard: ShardId) {
        self.open.retain(|_, open| {
            if open.meta.shard == shard
                && let Some(worker) = &open.worker
            {
                worker.cancel.cancel();
            }
            open.meta.shard != shard
        });
        // Entries of `ready` and `timers` are dropped when their turn comes: they name nothing open.
    }

    #[cfg(test)]
    pub(crate) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// Committed state of a shard, in order, to compare with a reload.
    #[cfg(test)]
    pub(crate) fn snapshot(&self, shard: ShardId) -> Vec<(InvocationId, OpenRow)> {
        let mut rows: Vec<_> = self
            .open
            .iter()
            .filter(|(_, open)| open.meta.shard == shard)
            .map(|(id, open)| (*id, open.row.clone()))
            .collect();
        rows.sort_by_key(|(id, _)| *id);
        rows
    }
}

impl Open {
    /// Whether a claim may take it: it waits, or its worker is gone.
    pub(crate) fn is_runnable(&self, now: Timestamp) -> bool {
        let is_awake = self.meta.wake_at.is_none_or(|at| at <= now);
        match self.row.state {
            RunState::Queued | RunState::Running(_) => is_awake && self.worker.is_none(),
        }
    }

    /// Slots of its agent; after a takeover the contract's default until the artifact is read.
    pub(crate) fn concurrency(&self) -> u32 {
        match (&self.spec, self.meta.concurrency) {
            (Some(spec), _) => spec.limits.concurrency,
            (None, 0) => mesh_types::agent::Limits::default().concurrency,
            (None, known) => known,
        }
    }
}
