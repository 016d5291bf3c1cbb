//! What goes into the next batch, and in which order: appends and ends, claims, cancels, accepts.

use std::collections::HashSet;
use std::sync::Arc;

use mesh_api::journal::Fact;
use mesh_types::{InvocationId, Problem, Timestamp};
use tokio::sync::oneshot;

use super::Lane;
use super::command::{Accepted, Append, AppendAnswer, Cancel, Waiter, moved};
use super::write::in_time;
use crate::core::decide::{self, AppendRefusal};
use crate::core::open::view_ended;
use crate::core::ready::Take;
use crate::core::{After, Decision};
use crate::hosted::Slot;
use crate::store::load;

/// Most records of one batch.
pub(super) const BATCH_RECORDS_MAX: usize = 1_000;
/// Most bytes of one batch; one larger command goes alone.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A decision that waits for its commit, with what follows then.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) decision: Decision,
    pub(crate) then: Then,
    /// About what it takes, on the wire and in memory.
    pub(crate) bytes: usize,
}

#[derive(Debug)]
pub(crate) enum Then {
    Accept {
        accept: Box<AcceptRest>,
        slot: Option<Slot>,
    },
    Claim {
        slot: Slot,
    },
    Append {
        answer: oneshot::Sender<Result<u32, AppendAnswer>>,
    },
    Cancel {
        answer: oneshot::Sender<Result<Option<mesh_api::execution::Invocation>, Problem>>,
    },
    Expire,
}

/// What is left of an accept once its meta is shared.
#[derive(Debug)]
pub(crate) struct AcceptRest {
    pub(crate) spec: Arc<mesh_types::agent::AgentSpec>,
    pub(crate) answer: oneshot::Sender<Result<Accepted, Problem>>,
    pub(crate) waiter: Option<Waiter>,
}

/// One batch in the making: at most one command an invocation, within the limits.
#[derive(Default)]
pub(super) struct Batch {
    planned: Vec<Planned>,
    pub(super) touched: HashSet<InvocationId>,
    records: usize,
    bytes: usize,
}

impl Batch {
    pub(super) fn is_full(&self) -> bool {
        self.records >= BATCH_RECORDS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    pub(super) fn push(&mut self, decision: Decision, then: Then) {
        self.touched.insert(decision.id());
        self.records += decision.records.len();
        let bytes = estimate(&decision);
        self.bytes += bytes;
        self.planned.push(Planned { decision, then, bytes });
    }
}

/// Bytes that a decision will take, without serialising it twice: only bodies that can be large are measured.
fn estimate(decision: &Decision) -> usize {
    let mut columns = 0;
    for record in &decision.records {
        columns += match &record.fact {
            Fact::Begun(begun) => size(&begun.input),
            Fact::Done(done) => done.input.as_ref().map_or(0, size) + done.output.as_ref().map_or(0, size),
            Fact::Ended(ended) => 2 * ended.output.as_ref().map_or(0, size),
            _ => 0,
        } + 256;
    }
    if matches!(decision.after, After::Opened(_)) {
        columns += size(&decision.meta.input.payload);
    }
    columns
}

fn size(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum::<usize>() + items.len(),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + size(value) + 6).sum(),
        _ => 8,
    }
}

impl Lane {
    /// Decides on what waits. Nothing in memory changes but queues.
    pub(super) async fn plan(&mut self) -> Vec<Planned> {
        let now = self.context.clock.now();
        let mut batch = Batch::default();
        let expired = self.memory.fire_timers(now);
        self.plan_appends(&mut batch, now).await;
        self.plan_expired(&mut batch, &expired, now);
        self.plan_claims(&mut batch, now);
        self.plan_cancels(&mut batch, now);
        if !self.accepts.is_empty() {
            self.plan_accepts(&mut batch, now).await;
        }
        batch.planned
    }

    async fn plan_appends(&mut self, batch: &mut Batch, now: Timestamp) {
        let mut later = Vec::new();
        while let Some(append) = self.appends.pop_front() {
            if batch.is_full() || batch.touched.contains(&append.id) {
                later.push(append);
                if batch.is_full() {
                    break;
                }
                continue;
            }
            self.plan_append(batch, append, now).await;
        }
        for append in later.into_iter().rev() {
            self.appends.push_front(append);
        }
    }

    async fn plan_append(&mut self, batch: &mut Batch, append: Append, now: Timestamp) {
        let Append {
            id,
            epoch,
            after_seq,
            facts,
            answer,
        } = append;
        let Some(open) = self.memory.open.get(&id) else {
            // Not open here: ended, or the shard moved. Both stop the worker.
            let _ = answer.send(Err(AppendAnswer::Stale));
            return;
        };
        let (meta, row) = (Arc::clone(&open.meta), open.row.clone());
        if after_seq < row.seq && epoch == row.epoch {
            let _ = answer.send(self.answer_repeat(id, after_seq, row.seq, &facts).await);
            return;
        }
        match decide::append(&meta, &row, epoch, after_seq, facts, now) {
            Ok(decision) => batch.push(decision, Then::Append { answer }),
            Err(refusal) => {
                if refusal == AppendRefusal::HistoryLost {
                    tracing::error!(invocation = %id, epoch, after_seq, ours = row.seq, "a worker's journal is ahead of ours; it is stopped");
                }
                let _ = answer.send(Err(AppendAnswer::Stale));
            }
        }
    }

    /// Its answer was lost, or it is a stranger: the committed records tell. Same facts again are fine.
    async fn answer_repeat(
        &mut self,
        id: InvocationId,
        after_seq: u32,
        seq: u32,
        facts: &[Fact],
    ) -> Result<u32, AppendAnswer> {
        let committed = match self.connection().await {
            Ok(connection) => in_time(load::journal(connection, id, after_seq, i64::from(seq - after_seq))).await,
            Err(error) => Err(error),
        };
        match committed {
            Ok(records) if records.iter().map(|record| &record.fact).eq(facts) => Ok(seq),
            Ok(_) => Err(AppendAnswer::Stale),
            Err(error) => {
                tracing::warn!(%error, invocation = %id, "a repeated append cannot be compared; its worker is stopped");
                self.connection = None;
                Err(AppendAnswer::Stale)
            }
        }
    }

    fn plan_expired(&mut self, batch: &mut Batch, expired: &[InvocationId], now: Timestamp) {
        for id in expired {
            if batch.is_full() || batch.touched.contains(id) {
                self.memory.wake(*id, now);
            } else if let Some(open) = self.memory.open.get(id) {
                batch.push(decide::expire(&open.meta, &open.row, now), Then::Expire);
            }
        }
    }

    fn plan_claims(&mut self, batch: &mut Batch, now: Timestamp) {
        if self.memory.ready.is_empty() || self.context.draining.is_cancelled() {
            return;
        }
        let Self { memory, context, .. } = self;
        let room = BATCH_RECORDS_MAX.saturating_sub(batch.records);
        let open = &memory.open;
        memory.ready.take(room, |id| {
            let Some(found) = open
                .get(&id)
                .filter(|open| open.is_runnable(now) && !batch.touched.contains(&id))
            else {
                return Take::Gone;
            };
            let Some(slot) = context
                .slots
                .take(&found.meta.tenant, &found.meta.agent, found.concurrency())
            else {
                return Take::NoSlot;
            };
            let decision = decide::claim(&found.meta, &found.row, &context.holder, now);
            batch.push(decision, Then::Claim { slot });
            Take::Taken
        });
    }

    fn plan_cancels(&mut self, batch: &mut Batch, now: Timestamp) {
        for _ in 0..self.cancels.len() {
            let Some(cancel) = self.cancels.pop_front() else {
                break;
            };
            if batch.touched.contains(&cancel.id) || batch.is_full() {
                self.cancels.push_back(cancel);
                continue;
            }
            let Cancel {
                id,
                shard,
                tenant,
                actor,
                reason,
                answer,
            } = cancel;
            if !self.shards.contains_key(&shard) {
                let _ = answer.send(Err(moved()));
                continue;
            }
            match self.memory.open.get(&id).filter(|open| open.meta.tenant == tenant) {
                Some(open) => batch.push(
                    decide::cancel(&open.meta, &open.row, &actor, &reason, now),
                    Then::Cancel { answer },
                ),
                None => drop(answer.send(Ok(None))),
            }
        }
    }
}

/// Kept here so that `apply` need not know the view.
pub(super) fn ended_view(decision: &Decision) -> Option<mesh_api::execution::Invocation> {
    match &decision.after {
        After::Ended(end) => Some(view_ended(&decision.meta, end)),
        _ => None,
    }
}
