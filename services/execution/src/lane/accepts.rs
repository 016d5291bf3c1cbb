//! Accepts on their way into a batch: keys and ids that callers chose are looked up first.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use mesh_runtime::planted::is_planted;
use mesh_store::IdExt;
use mesh_types::agent::SessionPolicy;
use mesh_types::{Code, InvocationId, Problem, Tenant, Timestamp};
use tokio::sync::oneshot;

use super::Lane;
use super::command::{Accept, Accepted};
use super::plan::{AcceptRest, BATCH_RECORDS_MAX, Batch, Then};
use crate::core::open::view_open;
use crate::core::{After, Decision, RunState, decide};
use crate::store::ledger::{Ledger, LedgerError, Wanted};
use crate::store::load::Known;

impl<L: Ledger> Lane<L> {
    pub(super) async fn plan_accepts(&mut self, batch: &mut Batch, now: Timestamp) {
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
            if let Some(first) = first_of(&accept, &known).filter(|_| !is_planted("no_dedupe_by_key")) {
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
            match self.join_session(batch, accept, now) {
                Joined::Alone(accept) => self.plan_accept(batch, *accept, now),
                Joined::Done => {}
                Joined::Later(accept) => {
                    self.accepts.push_front(accept);
                    break;
                }
            }
        }
    }

    /// What its session says to one that comes while another is open.
    fn join_session(&mut self, batch: &mut Batch, accept: Accept, now: Timestamp) -> Joined {
        if accept.meta.session.is_none() {
            return Joined::Alone(Box::new(accept));
        }
        let open = self.memory.sessions.of(&accept.meta);
        if batch.holds_session(&accept.meta) {
            // One of the same session is accepted in this very batch: its turn comes with the next.
            return Joined::Later(Box::new(accept));
        }
        let Some(last) = open.last() else {
            return Joined::Alone(Box::new(accept));
        };
        match accept.spec.session.policy {
            SessionPolicy::Queue => Joined::Alone(Box::new(accept)),
            SessionPolicy::Reject => {
                let _ = accept.answer.send(Err(session_busy(&accept.meta, open[0])));
                Joined::Done
            }
            SessionPolicy::Interrupt => {
                for id in open {
                    let Some(open) = self.memory.open.get(&id) else {
                        continue;
                    };
                    if batch.touched.contains(&id) {
                        return Joined::Later(Box::new(accept));
                    }
                    let decision = decide::cancel(&open.meta, &open.row, &accept.meta.actor, "interrupted", now);
                    batch.push(super::steer::with_children(decision, open, now), Then::Quiet);
                }
                Joined::Alone(Box::new(accept))
            }
            SessionPolicy::Merge => self.merge(batch, accept, *last, now),
        }
    }

    /// Into the last one of the session, if that has not started; it sees the message when it does.
    fn merge(&mut self, batch: &mut Batch, accept: Accept, last: InvocationId, now: Timestamp) -> Joined {
        let target = self.memory.open.get(&last);
        let Some(target) = target.filter(|open| open.row.epoch == 0 && open.row.state == RunState::Queued) else {
            return Joined::Alone(Box::new(accept));
        };
        if batch.touched.contains(&last) {
            return Joined::Later(Box::new(accept));
        }
        let Accept {
            meta,
            spec,
            answer,
            waiter,
            ..
        } = accept;
        let decision = decide::merge(meta, &target.meta, &target.row, now);
        let rest = AcceptRest { spec, answer, waiter };
        let then = Then::Accept {
            accept: Box::new(rest),
            slot: None,
        };
        batch.push(decision, then);
        Joined::Done
    }

    fn plan_accept(&mut self, batch: &mut Batch, accept: Accept, now: Timestamp) {
        let Accept {
            meta,
            spec,
            answer,
            waiter,
            letter,
            ..
        } = accept;
        let is_awake = meta.wake_at.is_none_or(|at| at <= now);
        // A session's own place in the order; the interrupted ones before it are ended by this very batch.
        let is_alone = meta.session.is_none() || self.memory.sessions.of(&meta).is_empty();
        let may_run = is_awake
            && is_alone
            && !meta.input.placed
            && !self.context.draining.is_cancelled()
            && !self.context.pauses.holds(&meta.tenant, &meta.agent)
            && (self.memory.ready.is_empty() || !self.memory.ready.holds(&meta.tenant, &meta.agent));
        let slot = may_run
            .then(|| self.context.slots.take(&meta.tenant, &meta.agent, meta.concurrency))
            .flatten();
        let order = if meta.session.is_some() {
            let batch_number = self.shards.get(&meta.shard).map_or(0, |owned| owned.batch + 1);
            (batch_number << ORDER_BITS) + i64::try_from(batch.planned.len()).unwrap_or(0) + 1
        } else {
            0
        };
        let holder = slot.as_ref().map(|_| &self.context.holder);
        let mut decision = decide::accept(meta, holder, order, now);
        decision.letter = letter.map(|letter| letter.id);
        let answer = early(answer, &decision);
        let rest = AcceptRest { spec, answer, waiter };
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
        let mut wanted = Wanted::default();
        for accept in self
            .accepts
            .iter()
            .take(BATCH_RECORDS_MAX)
            .filter(|accept| is_keyed(accept))
        {
            if let Some(key) = &accept.meta.key {
                wanted.tenants.push(accept.meta.tenant.to_string());
                wanted.keys.push(key.clone());
            }
            if accept.id_is_given {
                wanted.ids.push(accept.meta.id.to_uuid());
            }
        }
        if wanted == Wanted::default() {
            return Some(KnownKeys::default());
        }
        match self.ledger.known(&wanted).await {
            Ok(rows) => Some(KnownKeys::from_rows(rows)),
            Err(error) => {
                self.key_lookup_failed(&error).await;
                None
            }
        }
    }

    /// A look-up that a text of one caller spoiled refuses that one; anything else is tried again.
    async fn key_lookup_failed(&mut self, error: &LedgerError) {
        if matches!(error, LedgerError::Refused { .. }) {
            self.accepts.retain_mut(|accept| {
                let bad = accept.meta.key.as_ref().is_some_and(|key| key.contains('\0'));
                if bad {
                    let (closed, _) = oneshot::channel();
                    let problem =
                        Problem::new(Code::RecordRefused, "idempotency_key holds U+0000").field("idempotency_key");
                    let _ = std::mem::replace(&mut accept.answer, closed).send(Err(problem));
                }
                !bad
            });
        } else {
            tracing::warn!(%error, "keys cannot be looked up; trying again");
            self.ledger.reset();
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}

type Answer = oneshot::Sender<Result<Accepted, Problem>>;

/// Bits below the batch's number in the order of a session.
const ORDER_BITS: u32 = 16;

/// What became of an accept of a session.
enum Joined {
    /// Into the queue, as if there were no policy.
    Alone(Box<Accept>),
    Done,
    /// With the next batch.
    Later(Box<Accept>),
}

fn session_busy(meta: &crate::core::Meta, first: InvocationId) -> Problem {
    let session = meta.session.as_deref().unwrap_or_default();
    Problem::new(
        Code::SessionBusy,
        format!("session `{session}` of {} has the open invocation {first}", meta.agent),
    )
    .field("session")
    .next("wait for its end, cancel it, or set spec.session.policy to queue")
}

/// With the planted bug `answer_before_commit`, the answer is out already.
fn early(answer: Answer, decision: &Decision) -> Answer {
    let After::Opened(row) = &decision.after else {
        return answer;
    };
    if !is_planted("answer_before_commit") {
        return answer;
    }
    let _ = answer.send(Ok(Accepted::New(Box::new(view_open(&decision.meta, row)))));
    oneshot::channel().0
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
        accept
            .meta
            .key
            .as_ref()
            .is_some_and(|key| self.pending.contains(&(accept.meta.tenant.clone(), key.clone())))
    }

    fn add_pending(&mut self, accept: &Accept) {
        if let Some(key) = &accept.meta.key {
            self.pending.insert((accept.meta.tenant.clone(), key.clone()));
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
