//! Accepts on their way into a batch: keys and ids that callers chose are looked up first.

use std::collections::{HashMap, HashSet, hash_map::Entry};
use std::sync::Arc;

use mesh_store::IdExt;
use mesh_types::{Code, InvocationId, Problem, Tenant, Timestamp};
use tokio::sync::oneshot;

use super::Lane;
use super::command::{Accept, Accepted};
use super::plan::{AcceptRest, BATCH_RECORDS_MAX, Batch, Then};
use super::write::in_time;
use crate::core::decide;
use crate::store::load::{self, Known};

impl Lane {
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
            && (self.memory.ready.is_empty() || !self.memory.ready.holds(&meta.tenant, &meta.agent));
        let slot = may_run
            .then(|| self.context.slots.take(&meta.tenant, &meta.agent, meta.concurrency))
            .flatten();
        let decision = decide::accept(Arc::new(meta), slot.as_ref().map(|_| &self.context.holder), now);
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
