//! What goes into the next batch, and in which order: appends and ends, due timers, claims, steering, accepts.

use std::collections::HashSet;
use std::sync::Arc;

use mesh_api::journal::{Fact, Record};
use mesh_types::{InvocationId, Problem, Timestamp};
use tokio::sync::oneshot;

use super::Lane;
use super::command::{Accepted, AppendAnswer, Appended, SteerAnswer, Waiter};
use crate::core::open::{view_ended, view_open};
use crate::core::{After, Decision, decide};
use crate::figures::Loss;
use crate::hosted::Slot;
use crate::store::ledger::Ledger;

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
    /// Given to a node; its answer goes out when the whole batch is known.
    Grant,
    Append {
        /// What its worker hears of besides.
        news: Vec<Record>,
        answer: oneshot::Sender<Result<Appended, AppendAnswer>>,
    },
    /// Its result is taken, itself is stale.
    Late {
        answer: oneshot::Sender<Result<Appended, AppendAnswer>>,
    },
    Steer {
        answer: SteerAnswer,
    },
    /// Nobody waits for it.
    Quiet,
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
    pub(super) planned: Vec<Planned>,
    pub(super) touched: HashSet<InvocationId>,
    pub(super) records: usize,
    bytes: usize,
}

impl Batch {
    pub(super) fn is_full(&self) -> bool {
        self.records >= BATCH_RECORDS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// Whether one of the same session is accepted in this batch: memory does not know of it yet.
    pub(super) fn holds_session(&self, meta: &crate::core::Meta) -> bool {
        meta.session.is_some()
            && self.planned.iter().any(|planned| {
                let other = &planned.decision.meta;
                matches!(planned.decision.after, After::Opened(_))
                    && (&other.session, &other.agent, &other.tenant) == (&meta.session, &meta.agent, &meta.tenant)
            })
    }

    pub(super) fn push(&mut self, decision: Decision, then: Then) {
        self.touched.insert(decision.id());
        self.touched.extend(decision.also.as_ref().map(|also| also.id()));
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
        columns += decision.meta.input.payload.len();
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

impl<L: Ledger> Lane<L> {
    /// Decides on what waits. Nothing in memory changes but queues.
    pub(super) async fn plan(&mut self) -> Vec<Planned> {
        let now = self.context.clock.now();
        let mut batch = Batch::default();
        let due = self.memory.fire_timers(now, self.context.clock.monotonic());
        let ended = std::mem::take(&mut self.memory.leases_ended);
        self.context.figures.lost(Loss::Lease, ended);
        self.plan_appends(&mut batch, now).await;
        self.plan_due(&mut batch, &due, now);
        self.plan_claims(&mut batch, now);
        self.plan_grants(&mut batch, now);
        self.plan_steering(&mut batch, now).await;
        if !self.accepts.is_empty() {
            self.plan_accepts(&mut batch, now).await;
        }
        batch.planned
    }

    fn plan_due(&mut self, batch: &mut Batch, due: &[InvocationId], now: Timestamp) {
        for id in due {
            if batch.is_full() || batch.touched.contains(id) {
                self.memory.wake(*id, now);
                continue;
            }
            let Some(open) = self.memory.open.get(id) else {
                continue;
            };
            let decision = match &open.cancel {
                Some((at, reason)) if *at <= now => decide::cancel(&open.meta, &open.row, "execution", reason, now),
                _ => decide::expire(&open.meta, &open.row, now),
            };
            let decision = super::steer::with_children(decision, open, now);
            batch.push(decision, Then::Quiet);
        }
    }
}

/// What everyone sees once the decision is committed; `row` is the one before it.
pub(super) fn view_after(
    decision: &Decision,
    row: Option<&crate::core::OpenRow>,
) -> Option<mesh_api::execution::Invocation> {
    let meta = &decision.meta;
    match &decision.after {
        After::Ended(end) | After::Merged(end) => Some(view_ended(meta, end)),
        After::Opened(row) | After::Changed { row, .. } => Some(view_open(meta, row)),
        After::Grew { seq } => row.map(|row| mesh_api::execution::Invocation {
            cursor: *seq,
            ..view_open(meta, row)
        }),
    }
}
