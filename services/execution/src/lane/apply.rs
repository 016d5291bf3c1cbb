//! After the commit: memory changes, callers are answered, workers started, the relay told. Never before.

use std::sync::Arc;
use std::time::Duration;

use mesh_api::execution::Invocation;
use mesh_api::journal::{Fact, Record};
use mesh_runtime::fail_point;
use mesh_types::{Code, Problem, Timestamp};
use tokio_util::sync::CancellationToken;

use super::Lane;
use super::command::{Accepted, AppendAnswer, Appended, Next, Start, moved};
use super::memory::{Held, Lease, Open, Worker};
use super::news::{follow_children, take_news};
use super::plan::{AcceptRest, Planned, Then, view_after};
use super::steer::cancel_due;
use crate::core::open::usage_after;
use crate::core::{After, Decision, OpenRow, RunState, Waits, summary};
use crate::figures::Tally;
use crate::hosted::Slot;
use crate::relay::{Committed, CommittedInvocation};
use crate::shards::ShardId;
use crate::store::ledger::Ledger;

/// Pause before a claim or a deadline that was refused is decided on again.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

impl<L: Ledger> Lane<L> {
    /// The group is committed but for the shards in `lost`, of which nothing was written.
    pub(super) fn apply(&mut self, group: Vec<Planned>, lost: &[ShardId]) {
        fail_point!("execution.answer.before");
        let mut committed: Vec<Committed> = Vec::new();
        let mut tally = Tally::new(&self.context.figures, self.context.clock.now());
        for planned in group {
            let shard = planned.decision.meta.shard;
            if lost.contains(&shard) {
                answer_moved(planned.then);
                continue;
            }
            if !committed.iter().any(|batch| batch.shard == shard)
                && let Some(owned) = self.shards.get_mut(&shard)
            {
                owned.batch += 1;
                self.context.relayed.set_committed(shard, owned.batch);
                committed.push(Committed {
                    shard,
                    batch: owned.batch,
                    bytes: 0,
                    invocations: Vec::new(),
                });
            }
            self.abort_if_asked(&planned.decision);
            let decision = &planned.decision;
            tally.count(decision, self.memory.open.get(&decision.id()));
            let bytes = planned.bytes;
            let mut told = Vec::new();
            self.apply_one(planned, &mut told);
            if let Some(batch) = committed.iter_mut().find(|batch| batch.shard == shard) {
                batch.bytes += bytes;
                batch.append(told);
            }
        }
        tally.finish();
        for shard in lost {
            tracing::warn!(shard, "the shard belongs to another process now");
            self.forget(*shard);
        }
        fail_point!("execution.answer.after");
        for batch in committed {
            // Full: the relay finds the gap and reads the feed.
            self.context.relay.offer(batch);
        }
    }

    /// Memory follows the decision; who waits for it is answered; what the relay tells comes back.
    fn apply_one(&mut self, planned: Planned, told: &mut Vec<CommittedInvocation>) {
        let Planned { mut decision, then, .. } = planned;
        let id = decision.id();
        let view = match &then {
            // Nobody looks at the view of most.
            Then::Steer { .. } | Then::Accept { .. } => {
                view_after(&decision, self.memory.open.get(&id).map(|open| &open.row))
            }
            _ if decision.after.is_end() => view_after(&decision, None),
            _ => None,
        };
        if let Some(also) = decision.also.take() {
            self.apply_one(
                Planned {
                    decision: *also,
                    then: Then::Quiet,
                    bytes: 0,
                },
                told,
            );
        }
        let slot = match then {
            Then::Accept { accept, slot } => {
                self.accepted(&decision, *accept, slot, view);
                return self.finish(decision, told);
            }
            Then::Claim { slot } => Some(slot),
            Then::Append { news, answer } => {
                self.appended(&decision, news, answer);
                None
            }
            Then::Late { answer } => {
                let _ = answer.send(Err(AppendAnswer::Stale));
                None
            }
            Then::Steer { answer } => {
                self.change(&decision, view.as_ref());
                let _ = answer.send(Ok(view));
                return self.finish(decision, told);
            }
            Then::Grant | Then::Quiet => None,
        };
        self.change(&decision, view.as_ref());
        if let Some(slot) = slot {
            self.start_claimed(&decision, slot);
        }
        self.finish(decision, told);
    }

    fn finish(&mut self, decision: Decision, told: &mut Vec<CommittedInvocation>) {
        for letter in &decision.mail {
            (self.context.posted)(letter.shard);
        }
        let summary = summary::of(&decision.after);
        told.push(CommittedInvocation {
            meta: decision.meta,
            records: decision.records,
            summary,
            // Set with the batch, which is not at hand here.
            ordinal: 0,
        });
    }

    fn accepted(&mut self, decision: &Decision, rest: AcceptRest, slot: Option<Slot>, view: Option<Invocation>) {
        let AcceptRest { spec, answer, waiter } = rest;
        let Some(view) = view else { return };
        let After::Opened(row) = &decision.after else {
            // Merged: it has ended with its acceptance.
            if let Some(waiter) = waiter {
                let _ = waiter.send(view.clone());
            }
            let _ = answer.send(Ok(Accepted::New(Box::new(view))));
            return;
        };
        let _ = answer.send(Ok(Accepted::New(Box::new(view))));
        let mut open = Open {
            spec: Some(spec),
            journal: decision.records.clone(),
            waiters: waiter.into_iter().collect(),
            worker_seq: Some(row.seq),
            signal_keys: Some(Vec::new()),
            ..Open::new(Arc::clone(&decision.meta), row.clone())
        };
        if let Some(slot) = slot {
            self.start(&mut open, slot);
        }
        self.memory.insert(open);
        self.memory.enqueue(decision.id(), self.context.clock.now());
    }

    fn appended(
        &mut self,
        decision: &Decision,
        news: Vec<Record>,
        answer: tokio::sync::oneshot::Sender<Result<Appended, AppendAnswer>>,
    ) {
        let (seq, next) = match &decision.after {
            After::Grew { seq } => (*seq, Next::GoOn),
            After::Changed { row, .. } if row.state == RunState::Queued => (row.seq, Next::Stop),
            After::Changed { row, .. } | After::Opened(row) => (row.seq, Next::Waiting),
            After::Ended(end) | After::Merged(end) => (end.seq, Next::GoOn),
        };
        let now = self.context.clock.now();
        let until = self.context.clock.monotonic() + self.context.node_lease;
        let mut is_adopted = false;
        if let Some(open) = self.memory.open.get_mut(&decision.id()) {
            open.worker_seq = Some(seq);
            open.news.clear();
            follow_children(open, &decision.records);
            match &mut open.held {
                Held::There(lease) => lease.until = until,
                Held::No if open.meta.input.placed => {
                    // It lost its lease, and nobody has claimed since.
                    open.held = Held::There(Lease { until, is_old: true });
                    is_adopted = true;
                }
                Held::No | Held::Here(_) => {}
            }
        }
        if is_adopted {
            self.memory.wake(decision.id(), now.plus(self.context.node_lease));
        }
        let _ = answer.send(Ok(Appended { seq, news, next }));
    }

    /// The open row as the decision leaves it.
    fn change(&mut self, decision: &Decision, ended: Option<&Invocation>) {
        let now = self.context.clock.now();
        let id = decision.id();
        match &decision.after {
            After::Opened(_) | After::Merged(_) => {}
            After::Grew { seq } => {
                if let Some(open) = self.memory.open.get_mut(&id) {
                    open.row.seq = *seq;
                    open.row.usage = usage_after(open.row.usage, &decision.records);
                    take_news(open, &decision.records);
                }
                self.memory.enqueue(id, now);
            }
            After::Changed { row, .. } => {
                self.changed(decision, row.clone(), now);
            }
            After::Ended(_) => self.close(decision, ended, now),
        }
    }

    fn changed(&mut self, decision: &Decision, row: OpenRow, now: Timestamp) {
        let id = decision.id();
        let monotonic = self.context.clock.monotonic();
        let lease = self.context.node_lease;
        let Some(open) = self.memory.open.get_mut(&id) else {
            return;
        };
        let was_claimed = row.epoch > open.row.epoch;
        let is_cancelling = row.cancelling && !open.row.cancelling;
        let wake_at = row.state.waits().and_then(Waits::wake_at);
        self.memory.states[open.row.state.place()] -= 1;
        self.memory.states[row.state.place()] += 1;
        open.row = row;
        if was_claimed || !open.is_runnable(now) {
            open.ready_at = None;
        }
        // Its timer may have rung while it was paused.
        let sleeps_until = open.sleeps_until(now);
        if !open.journal.is_empty() {
            open.journal.extend(decision.records.iter().cloned());
        }
        let mut timers: Vec<Timestamp> = wake_at.into_iter().chain(sleeps_until).collect();
        if was_claimed {
            open.is_woken = false;
            open.news.clear();
            open.worker_seq = Some(open.row.seq);
            if open.meta.input.placed {
                let until = monotonic + lease;
                open.held = Held::There(Lease { until, is_old: false });
                timers.push(now.plus(lease));
            }
        } else {
            take_news(open, &decision.records);
        }
        if is_cancelling {
            fail_point!("execution.cancel.after");
            let reason = decision.records.iter().find_map(|record| match &record.fact {
                Fact::CancelRequested(asked) => Some(asked.reason.clone()),
                _ => None,
            });
            let at = cancel_due(now);
            open.cancel = Some((at, reason.unwrap_or_default()));
            timers.push(at);
            if let RunState::Running(holder) = &open.row.state {
                self.handle.gauges.nodes.stop(Arc::clone(&holder.node));
            }
        }
        if open.row.state == RunState::Queued
            && let Some((at, _)) = &mut open.cancel
        {
            // Its node has let go: nothing is left to wait for.
            *at = now;
            timers.push(now);
        }
        if !matches!(open.row.state, RunState::Running(_)) {
            // Its worker lets go; the slot is free for somebody else at once.
            if let Held::Here(worker) = std::mem::take(&mut open.held)
                && open.row.state == RunState::Queued
            {
                worker.cancel.cancel();
            }
        }
        timers.into_iter().for_each(|at| self.memory.wake(id, at));
        self.memory.enqueue(id, now);
    }

    fn start_claimed(&mut self, decision: &Decision, slot: Slot) {
        // Out and in again without its timers, which are set already.
        let Some(mut open) = self.memory.open.remove(&decision.id()) else {
            return;
        };
        self.start(&mut open, slot);
        self.memory.open.insert(decision.id(), open);
    }

    fn start(&self, open: &mut Open, slot: Slot) {
        let cancel = CancellationToken::new();
        (self.context.start)(Start {
            meta: Arc::clone(&open.meta),
            spec: open.spec.clone(),
            epoch: open.row.epoch,
            seq: open.row.seq,
            journal: std::mem::take(&mut open.journal),
            cancel: cancel.clone(),
        });
        open.held = Held::Here(Worker { cancel, _slot: slot });
        open.ready_at = None;
    }

    fn close(&mut self, decision: &Decision, ended: Option<&Invocation>, now: Timestamp) {
        let Some((open, next)) = self.memory.remove(decision.id()) else {
            return;
        };
        // Its own end, or one from outside: either way no effect starts any more.
        if let Held::Here(worker) = open.held {
            worker.cancel.cancel();
        }
        for (waiter, ended) in open.waiters.into_iter().zip(std::iter::repeat(ended)) {
            if let Some(ended) = ended {
                let _ = waiter.send(ended.clone());
            }
        }
        if let Some(next) = next {
            self.memory.enqueue(next, now);
        }
    }

    /// A decision that the database refuses for itself: its caller hears why, the others go on.
    pub(super) fn refuse(&mut self, group: Vec<Planned>, detail: &str, unique: bool) {
        for Planned { decision, then, .. } in group {
            tracing::warn!(invocation = %decision.id(), %detail, "a record is refused");
            let problem =
                Problem::new(Code::RecordRefused, detail).next("remove what the message names and send it again");
            match then {
                // Its key or id was taken meanwhile through another shard: sent again, it finds the first answer.
                Then::Accept { accept, .. } => drop(accept.answer.send(Err(if unique { moved() } else { problem }))),
                Then::Append { answer, .. } => drop(answer.send(Err(AppendAnswer::Refused(Box::new(problem))))),
                Then::Late { answer } => drop(answer.send(Err(AppendAnswer::Stale))),
                Then::Steer { answer } => drop(answer.send(Err(problem))),
                Then::Claim { .. } | Then::Grant | Then::Quiet => {
                    tracing::error!(invocation = %decision.id(), "a decision of our own is refused; trying again");
                    self.memory
                        .wake(decision.id(), self.context.clock.now().plus(REFUSED_PAUSE));
                }
            }
        }
    }

    fn abort_if_asked(&self, decision: &Decision) {
        let at = self.context.abort_after_seq;
        if at > 0 && decision.records.iter().any(|record| record.seq == at) {
            tracing::error!(seq = at, "aborting, as execution.abort_after_seq asks");
            std::process::abort();
        }
    }
}

/// Nothing of it was written, and somebody else owns its shard.
pub(super) fn answer_moved(then: Then) {
    match then {
        Then::Accept { accept, .. } => drop(accept.answer.send(Err(moved()))),
        Then::Append { answer, .. } | Then::Late { answer } => drop(answer.send(Err(AppendAnswer::Stale))),
        Then::Steer { answer } => drop(answer.send(Err(moved()))),
        Then::Claim { .. } | Then::Grant | Then::Quiet => {}
    }
}
