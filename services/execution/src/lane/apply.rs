//! After the commit: memory changes, callers are answered, workers started, the relay told. Never before.

use std::sync::Arc;
use std::time::Duration;

use mesh_types::{Code, Problem};
use tokio_util::sync::CancellationToken;

use super::Lane;
use super::command::{Accepted, AppendAnswer, Start, moved};
use super::memory::{Open, Worker};
use super::plan::{AcceptRest, Planned, Then, ended_view};
use crate::core::open::view_open;
use crate::core::{After, Decision, OpenRow, RunState, summary};
use crate::hosted::Slot;
use crate::relay::{Committed, CommittedInvocation};
use crate::shards::ShardId;

/// Pause before a claim or a deadline that was refused is decided on again.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

impl Lane {
    /// The group is committed but for the shards in `lost`, of which nothing was written.
    pub(super) fn apply(&mut self, group: Vec<Planned>, lost: &[ShardId]) {
        let mut committed: Vec<Committed> = Vec::new();
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
                committed.push(Committed {
                    shard,
                    batch: owned.batch,
                    bytes: 0,
                    invocations: Vec::new(),
                });
            }
            self.abort_if_asked(&planned.decision);
            let bytes = planned.bytes;
            let relayed = self.apply_one(planned);
            if let Some(batch) = committed.iter_mut().find(|batch| batch.shard == shard) {
                batch.bytes += bytes;
                batch.invocations.push(relayed);
            }
        }
        for shard in lost {
            tracing::warn!(shard, "the shard belongs to another process now");
            self.forget(*shard);
        }
        for batch in committed {
            // Full: the relay finds the gap and reads the feed.
            self.context.relay.offer(batch);
        }
    }

    fn apply_one(&mut self, planned: Planned) -> CommittedInvocation {
        let Planned { decision, then, .. } = planned;
        let ended = ended_view(&decision);
        let summary = summary::of(&decision.meta, &decision.after);
        let id = decision.id();
        match (&decision.after, then) {
            (After::Opened(row), Then::Accept { accept, slot }) => self.open(&decision, row.clone(), *accept, slot),
            (After::Changed(row), Then::Claim { slot }) => self.claimed(&decision, row.clone(), slot),
            (After::Grew { seq }, Then::Append { answer }) => {
                if let Some(open) = self.memory.open.get_mut(&id) {
                    open.row.seq = *seq;
                }
                let _ = answer.send(Ok(*seq));
            }
            (After::Ended(end), then) => {
                self.close(&decision, ended.as_ref());
                match then {
                    Then::Append { answer } => drop(answer.send(Ok(end.seq))),
                    Then::Cancel { answer } => drop(answer.send(Ok(ended))),
                    Then::Claim { .. } | Then::Expire | Then::Accept { .. } => {}
                }
            }
            // `decide` pairs each command with its kind of change.
            (after, then) => {
                tracing::error!(invocation = %id, ?after, ?then, "a decision of the wrong kind")
            }
        }
        CommittedInvocation {
            meta: decision.meta,
            records: decision.records,
            summary,
        }
    }

    fn open(&mut self, decision: &Decision, row: OpenRow, accept: AcceptRest, slot: Option<Slot>) {
        let AcceptRest { spec, answer, waiter } = accept;
        let id = decision.id();
        let _ = answer.send(Ok(Accepted::New(Box::new(view_open(&decision.meta, &row)))));
        let is_queued = row.state == RunState::Queued;
        let mut open = Open {
            meta: Arc::clone(&decision.meta),
            row,
            spec: Some(spec),
            journal: decision.records.clone(),
            worker: None,
            waiters: waiter.into_iter().collect(),
        };
        if let Some(slot) = slot {
            self.start(&mut open, slot);
        }
        self.memory.insert(open);
        if is_queued {
            self.memory.enqueue(id, self.context.clock.now());
        }
    }

    fn claimed(&mut self, decision: &Decision, row: OpenRow, slot: Slot) {
        let Some(mut open) = self.memory.open.remove(&decision.id()) else {
            return;
        };
        if !open.journal.is_empty() {
            open.journal.extend(decision.records.iter().cloned());
        }
        open.row = row;
        self.start(&mut open, slot);
        // Back without its timers, which are set already.
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
        open.worker = Some(Worker { cancel, _slot: slot });
    }

    fn close(&mut self, decision: &Decision, ended: Option<&mesh_api::execution::Invocation>) {
        let Some(open) = self.memory.remove(decision.id()) else {
            return;
        };
        // Its own end, or one from outside: either way no effect starts any more.
        if let Some(worker) = open.worker {
            worker.cancel.cancel();
        }
        for (waiter, ended) in open.waiters.into_iter().zip(std::iter::repeat(ended)) {
            if let Some(ended) = ended {
                let _ = waiter.send(ended.clone());
            }
        }
    }

    /// A decision that the database refuses for itself: its caller hears why, the others go on.
    pub(super) fn refuse(&mut self, group: Vec<Planned>, error: &sqlx::Error) {
        for Planned { decision, then, .. } in group {
            let detail = error
                .as_database_error()
                .map_or_else(|| error.to_string(), |e| e.message().to_owned());
            tracing::warn!(invocation = %decision.id(), %detail, "a record is refused");
            let problem =
                Problem::new(Code::RecordRefused, detail).next("remove what the message names and send it again");
            match then {
                Then::Accept { accept, .. } => {
                    let unique = error
                        .as_database_error()
                        .is_some_and(sqlx::error::DatabaseError::is_unique_violation);
                    // Its key or id was taken meanwhile through another shard: sent again, it finds the first answer.
                    let _ = accept.answer.send(Err(if unique { moved() } else { problem }));
                }
                Then::Append { answer } => drop(answer.send(Err(AppendAnswer::Refused(Box::new(problem))))),
                Then::Cancel { answer } => drop(answer.send(Err(problem))),
                Then::Claim { .. } | Then::Expire => {
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
        Then::Append { answer } => drop(answer.send(Err(AppendAnswer::Stale))),
        Then::Cancel { answer } => drop(answer.send(Err(moved()))),
        Then::Claim { .. } | Then::Expire => {}
    }
}
