//! What an owner holds in memory: a cache of committed state, changed only after a commit.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use mesh_api::journal::Record;
use mesh_runtime::fail_point;
use mesh_types::agent::AgentSpec;
use mesh_types::{InvocationId, Timestamp};
use tokio_util::sync::CancellationToken;

use super::command::Waiter;
use crate::core::append::Child;
use crate::core::ready::Ready;
use crate::core::sessions::Sessions;
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
    /// Who runs it, if somebody does.
    pub(crate) held: Held,
    pub(crate) waiters: Vec<Waiter>,
    /// What its worker does not know yet.
    pub(crate) news: Vec<Record>,
    /// Highest record that its worker was told of; `None` after a takeover.
    pub(crate) worker_seq: Option<u32>,
    /// What it waits for has come.
    pub(crate) is_woken: bool,
    pub(crate) children: Vec<Child>,
    /// Keys of its signals; `None`: not read since the takeover.
    pub(crate) signal_keys: Option<Vec<String>>,
    /// Since when a claim may take it; `None`: it may not, or was not asked.
    pub(crate) ready_at: Option<Timestamp>,
    /// When the owner ends it although its node has not stopped, and why.
    pub(crate) cancel: Option<(Timestamp, String)>,
}

#[derive(Debug, Default)]
pub(crate) enum Held {
    #[default]
    No,
    /// By a worker of this process.
    Here(Worker),
    /// By a node, until its lease is over.
    There(Lease),
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) cancel: CancellationToken,
    /// Given back when the worker is dropped from memory.
    pub(crate) _slot: Slot,
}

/// On the owner's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) until: Duration,
    /// The node has sent an `alive` since it was granted: not naming it then means that the grant was lost.
    pub(crate) is_old: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// In order of ids, so that what is done with all of them is the same in every run.
    pub(crate) open: BTreeMap<InvocationId, Open>,
    /// Runnable here.
    pub(crate) ready: Ready,
    /// Runnable on nodes.
    pub(crate) placed: Ready,
    /// Open ones that run on nodes only.
    pub(crate) on_nodes: BTreeSet<InvocationId>,
    pub(crate) sessions: Sessions,
    /// Something became runnable here since the last claims.
    pub(crate) is_hungry: bool,
    /// How many are queued, running, waiting.
    pub(crate) states: [usize; 3],
    /// Nodes' leases that have run out and are not counted yet.
    pub(crate) leases_ended: u64,
    timers: BinaryHeap<Reverse<(Timestamp, InvocationId)>>,
}

/// Pause before an invocation whose worker was lost is given out again, by losses so far, in milliseconds.
const RECLAIM_PAUSE_MS: [i64; 4] = [100, 500, 2_000, 10_000];

/// Timers that an open invocation has: its delay or wait, its deadline, a pause.
const TIMERS_EACH: usize = 3;
const TIMERS_SPARE: usize = 1_024;

impl Memory {
    pub(crate) fn insert(&mut self, open: Open) {
        let id = open.meta.id;
        let waits = open.row.state.waits().and_then(crate::core::Waits::wake_at);
        for at in [open.meta.wake_at, open.meta.deadline_at, waits].into_iter().flatten() {
            self.timers.push(Reverse((at, id)));
        }
        self.sessions.push(&open.meta);
        if open.meta.input.placed {
            self.on_nodes.insert(id);
        }
        self.states[open.row.state.place()] += 1;
        self.open.insert(id, open);
    }

    /// It has ended; with whoever of its session is first now.
    pub(crate) fn remove(&mut self, id: InvocationId) -> Option<(Open, Option<InvocationId>)> {
        let open = self.open.remove(&id)?;
        self.states[open.row.state.place()] -= 1;
        self.on_nodes.remove(&id);
        let next = self.sessions.remove(&open.meta);
        if self.timers.len() > TIMERS_SPARE + 2 * TIMERS_EACH * self.open.len() {
            // Mostly of ended ones, whose deadlines may lie far ahead: once in a while only the others are kept.
            let timers = std::mem::take(&mut self.timers).into_iter();
            let mut kept: Vec<_> = timers.filter(|Reverse((_, id))| self.open.contains_key(id)).collect();
            kept.sort_unstable();
            kept.dedup();
            self.timers = kept.into();
        }
        Some((open, next))
    }

    /// Looks at it again then.
    pub(crate) fn wake(&mut self, id: InvocationId, at: Timestamp) {
        self.timers.push(Reverse((at, id)));
    }

    /// Puts it into the queue if nothing keeps it from running.
    pub(crate) fn enqueue(&mut self, id: InvocationId, now: Timestamp) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        if !open.is_runnable(now) || !self.sessions.is_first(&open.meta) {
            return;
        }
        open.ready_at.get_or_insert(now);
        let queue = if open.meta.input.placed {
            &mut self.placed
        } else {
            self.is_hungry = true;
            &mut self.ready
        };
        queue.push(open.meta.priority, &open.meta.tenant, &open.meta.agent, id);
    }

    pub(crate) fn wait_for(&mut self, id: InvocationId, waiter: Waiter) {
        if let Some(open) = self.open.get_mut(&id) {
            open.waiters.retain(|waiter| !waiter.is_closed());
            open.waiters.push(waiter);
        }
    }

    /// A worker stopped although its invocation runs: it is runnable again after a pause. `false`: it does not run
    /// under that epoch.
    pub(crate) fn holder_gone(&mut self, id: InvocationId, epoch: u32, now: Timestamp) -> bool {
        let Some(open) = self.open.get_mut(&id).filter(|open| open.row.epoch == epoch) else {
            return false;
        };
        if !matches!(open.row.state, RunState::Running(_)) {
            return false;
        }
        open.held = Held::No;
        let step = (open.row.losses as usize).min(RECLAIM_PAUSE_MS.len() - 1);
        let at = Timestamp::from_micros(now.as_micros() + RECLAIM_PAUSE_MS[step] * 1_000);
        self.timers.push(Reverse((at, id)));
        true
    }

    pub(crate) fn next_timer(&self) -> Option<Timestamp> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Invocations whose time has come; those that are runnable are queued, those to end are returned.
    pub(crate) fn fire_timers(&mut self, now: Timestamp, monotonic: Duration) -> Vec<InvocationId> {
        let mut due = Vec::new();
        while let Some(Reverse((at, id))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            let Some(open) = self.open.get_mut(&id) else {
                continue;
            };
            let is_cancelled = open.cancel.as_ref().is_some_and(|(at, _)| *at <= now);
            if is_cancelled || open.meta.deadline_at.is_some_and(|deadline| deadline <= now) {
                due.push(id);
                continue;
            }
            if let Held::There(lease) = open.held {
                if lease.until > monotonic {
                    // Renewed meanwhile.
                    let again = now.plus(lease.until.saturating_sub(monotonic));
                    self.timers.push(Reverse((again, id)));
                    continue;
                }
                tracing::warn!(invocation = %id, "its node let the lease run out");
                open.held = Held::No;
                self.leases_ended += 1;
            }
            fail_point!("execution.timer.fired");
            self.enqueue(id, now);
        }
        due
    }

    pub(crate) fn forget(&mut self, shard: ShardId) {
        let gone: Vec<_> = self
            .open
            .iter()
            .filter(|(_, open)| open.meta.shard == shard)
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.on_nodes.remove(&id);
            if let Some(open) = self.open.remove(&id) {
                self.states[open.row.state.place()] -= 1;
                if let Held::Here(worker) = &open.held {
                    worker.cancel.cancel();
                }
                self.sessions.remove(&open.meta);
            }
        }
        // Entries of `ready` and `timers` are dropped when their turn comes: they name nothing open.
    }

    #[cfg(test)]
    pub(crate) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// Committed state of a shard, in order, to compare with a reload.
    #[cfg(test)]
    pub(crate) fn snapshot(&self, shard: ShardId) -> Vec<(InvocationId, OpenRow)> {
        self.open
            .iter()
            .filter(|(_, open)| open.meta.shard == shard)
            .map(|(id, open)| (*id, open.row.clone()))
            .collect()
    }
}

impl Open {
    pub(crate) fn new(meta: Arc<Meta>, row: OpenRow) -> Self {
        Self {
            meta,
            row,
            spec: None,
            journal: Vec::new(),
            held: Held::No,
            waiters: Vec::new(),
            news: Vec::new(),
            worker_seq: None,
            is_woken: false,
            children: Vec::new(),
            signal_keys: None,
            ready_at: None,
            cancel: None,
        }
    }

    /// Whether a claim may take it, as far as itself goes: nobody holds it, and it has something to do.
    pub(crate) fn is_runnable(&self, now: Timestamp) -> bool {
        if self.row.paused || self.row.cancelling || !matches!(self.held, Held::No) {
            return false;
        }
        match &self.row.state {
            RunState::Queued => self.meta.wake_at.is_none_or(|at| at <= now),
            RunState::Running(_) => true,
            RunState::Waiting(waits) => self.is_woken || waits.wake_at().is_some_and(|at| at <= now),
        }
    }

    /// When it will be runnable by itself, if that is later than now.
    pub(crate) fn sleeps_until(&self, now: Timestamp) -> Option<Timestamp> {
        let at = match &self.row.state {
            RunState::Queued => self.meta.wake_at,
            RunState::Waiting(waits) if !self.is_woken => waits.wake_at(),
            RunState::Waiting(_) | RunState::Running(_) => None,
        };
        at.filter(|at| *at > now)
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
