//! What goes into the next batch, and in which order: appends and ends, claims, cancels, accepts.

use std::collections::{HashMap, HashSet, hash_map::Entry};
use std::sync::Arc;

use mesh_api::journal::Fact;
use mesh_store::IdExt;
use mesh_types::{Code, InvocationId, Problem, Tenant, Timestamp};
use tokio::sync::oneshot;

use super::Lane;
use super::command::{Accept, Accepted, Append, AppendAnswer, Cancel, Waiter, moved};
use super::write::in_time;
use crate::core::decide::{self, AppendRefusal};
use crate::core::open::view_ended;
use crate::core::ready::Take;
use crate::core::{After, Decision};
use crate::hosted::Slot;
use crate::store::load::{self, Known};

/// Most records of one batch.
const BATCH_RECORDS_MAX: usize = 1_000;
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

/// What is left of an [`Accept`] once its meta is shared.
#[derive(Debug)]
pub(crate) struct AcceptRest {
    pub(crate) spec: Arc<mesh_types::agent::AgentSpec>,
    pub(crate) answer: oneshot::Sender<Result<Accepted, Problem>>,
    pub(crate) waiter: Option<Waiter>,
}

/// One batch in the making: at most one command an invocation, within the limits.
#[derive(Default)]
struct Batch {
    planned: Vec<Planned>,
    touched: HashSet<InvocationId>,
    records: usize,
    bytes: usize,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.records >= BATCH_RECORDS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    fn push(&mut self, decision: Decision, then: Then) {
        self.touched.insert(decision.id());
        self.records += decision.records.len();
        let bytes = estimate(&decision);
        self.bytes += bytes;
        self.planned.push(Planned {
            decision,
            then,
            bytes,
        });
    }
}

/// Bytes that a decision will take, without serialising it twice: only bodies that can be large are measured.
fn estimate(decision: &Decision) -> usize {
    let mut columns = 0;
    for record in &decision.records {
        columns += match &record.fact {
            Fact::Begun(begun) => size(&begun.input),
            Fact::Done(done) => {
                done.input.as_ref().map_or(0, size) + done.output.as_ref().map_or(0, size)
            }
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
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| key.len() + size(value) + 6)
            .sum(),
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
            Ok(connection) => {
                in_time(load::journal(
                    connection,
                    id,
                    after_seq,
                    i64::from(seq - after_seq),
                ))
                .await
            }
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
        let Self {
            memory, context, ..
        } = self;
        let room = BATCH_RECORDS_MAX.saturating_sub(batch.records);
        let open = &memory.open;
        memory.ready.take(room, |id| {
            let Some(found) = open
                .get(&id)
                .filter(|open| open.is_runnable(now) && !batch.touched.contains(&id))
            else {
                return Take::Gone;
            };
            let Some(slot) =
                context
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
            match self
                .memory
                .open
                .get(&id)
                .filter(|open| open.meta.tenant == tenant)
            {
                Some(open) => batch.push(
                    decide::cancel(&open.meta, &open.row, &actor, &reason, now),
                    Then::Cancel { answer },
                ),
                None => drop(answer.send(Ok(None))),
            }
        }
    }

    async fn plan_accepts(&mut self, batch: &mut Batch, now: Timestamp) {
        let Some(mut known) = self.known_keys().await else {
            return;
        };
        // No further than what was looked up.
        for _ in 0..BATCH_RECORDS_MAX {
            if batch.is_full() {
                break;
            }
            let Some(accept) = self.accepts.pop_front() else {
                break;
            };
            let accept = *accept;
            if accept.answer.is_closed() {
                // Whoever asked gave up, and was never told that it is accepted.
                continue;
            }
            if let Some(first) = first_of(&accept, &known) {
                let _ = accept.answer.send(first);
                continue;
            }
            if is_keyed(&accept) {
                if batch.touched.contains(&accept.meta.id) || known.pending(&accept) {
                    // Two of one key in one batch: the first wins, and the second finds it committed.
                    self.accepts.push_front(Box::new(accept));
                    break;
                }
                known.add_pending(&accept);
            }
            self.plan_accept(batch, accept, now);
        }
    }

    fn plan_accept(&mut self, batch: &mut Batch, accept: Accept, now: Timestamp) {
        let Accept {
            meta,
            spec,
            answer,
            waiter,
            ..
        } = accept;
        let is_awake = meta.wake_at.is_none_or(|at| at <= now);
        let may_run = is_awake
            && !self.context.draining.is_cancelled()
            && (self.memory.ready.is_empty()
                || !self.memory.ready.holds(&meta.tenant, &meta.agent));
        let slot = may_run
            .then(|| {
                self.context
                    .slots
                    .take(&meta.tenant, &meta.agent, meta.concurrency)
            })
            .flatten();
        let decision = decide::accept(
            Arc::new(meta),
            slot.as_ref().map(|_| &self.context.holder),
            now,
        );
        let rest = AcceptRest {
            spec,
            answer,
            waiter,
        };
        batch.push(
            decision,
            Then::Accept {
                accept: Box::new(rest),
                slot,
            },
        );
    }

    /// One look-up for all keys and given ids that wait; `None` if the database cannot be asked now.
    async fn known_keys(&mut self) -> Option<KnownKeys> {
        let (mut tenants, mut keys, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for accept in self
            .accepts
            .iter()
            .take(BATCH_RECORDS_MAX)
            .filter(|accept| is_keyed(accept))
        {
            if let Some(key) = &accept.meta.key {
                tenants.push(accept.meta.tenant.to_string());
                keys.push(key.clone());
            }
            if accept.id_is_given {
                ids.push(accept.meta.id.to_uuid());
            }
        }
        if keys.is_empty() && ids.is_empty() {
            return Some(KnownKeys::default());
        }
        let found = match self.connection().await {
            Ok(connection) => in_time(load::known(connection, &tenants, &keys, &ids)).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(rows) => Some(KnownKeys::from_rows(rows)),
            Err(error) => {
                self.key_lookup_failed(&error).await;
                None
            }
        }
    }

    /// A look-up that a text of one caller spoiled refuses that one; anything else is tried again.
    async fn key_lookup_failed(&mut self, error: &sqlx::Error) {
        if super::write::is_data_error(error) {
            self.accepts.retain_mut(|accept| {
                let bad = accept
                    .meta
                    .key
                    .as_ref()
                    .is_some_and(|key| key.contains('\0'));
                if bad {
                    let (closed, _) = oneshot::channel();
                    let problem = Problem::new(Code::RecordRefused, "idempotency_key holds U+0000")
                        .field("idempotency_key");
                    let _ = std::mem::replace(&mut accept.answer, closed).send(Err(problem));
                }
                !bad
            });
        } else {
            tracing::warn!(%error, "keys cannot be looked up; trying again");
            self.connection = None;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}

fn is_keyed(accept: &Accept) -> bool {
    accept.meta.key.is_some() || accept.id_is_given
}

/// Keys and ids that are taken, committed or in this very batch.
#[derive(Default)]
struct KnownKeys {
    keys: HashMap<(Tenant, String), Known>,
    ids: HashMap<InvocationId, Known>,
    pending: HashSet<(Tenant, String)>,
}

impl KnownKeys {
    fn from_rows(rows: Vec<Known>) -> Self {
        let mut known = Self::default();
        for row in rows {
            let tenant: Option<Tenant> = row.tenant.parse().ok();
            match (&row.key, tenant) {
                (Some(key), Some(tenant)) => drop(known.keys.insert((tenant, key.clone()), row)),
                _ => {
                    if let Entry::Vacant(place) = known.ids.entry(row.id) {
                        place.insert(row);
                    }
                }
            }
        }
        known
    }

    fn pending(&self, accept: &Accept) -> bool {
        accept.meta.key.as_ref().is_some_and(|key| {
            self.pending
                .contains(&(accept.meta.tenant.clone(), key.clone()))
        })
    }

    fn add_pending(&mut self, accept: &Accept) {
        if let Some(key) = &accept.meta.key {
            self.pending
                .insert((accept.meta.tenant.clone(), key.clone()));
        }
    }
}

/// The first answer, where key or id was used before; 422 where it was used with another request.
fn first_of(accept: &Accept, known: &KnownKeys) -> Option<Result<Accepted, Problem>> {
    let meta = &accept.meta;
    let by_key = meta
        .key
        .as_ref()
        .and_then(|key| known.keys.get(&(meta.tenant.clone(), key.clone())));
    let by_id = known.ids.get(&meta.id).filter(|_| accept.id_is_given);
    let first = by_key.or(by_id)?;
    let is_same = first.request_hash == meta.request_hash && first.tenant == meta.tenant.as_str();
    Some(if is_same {
        Ok(Accepted::Known(first.id))
    } else {
        Err(key_reused(meta))
    })
}

fn key_reused(meta: &crate::core::Meta) -> Problem {
    let (field, value) = match &meta.key {
        Some(key) => ("idempotency_key", key.clone()),
        None => ("invocation_id", meta.id.to_string()),
    };
    let value: String = value.chars().take(80).collect();
    Problem::new(
        Code::KeyReused,
        format!("{field} `{value}` was used with another request"),
    )
    .field(field)
    .next("use a new key for a new request")
}

/// Kept here so that `apply` need not know the view.
pub(super) fn ended_view(decision: &Decision) -> Option<mesh_api::execution::Invocation> {
    match &decision.after {
        After::Ended(end) => Some(view_ended(&decision.meta, end)),
        _ => None,
    }
}
