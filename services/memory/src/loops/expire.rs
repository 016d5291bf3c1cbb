//! Deletes memories whose time is over, wakes up for the next one, and ends erasures that were interrupted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::{Doorbell, PassReport};
use mesh_store::{Outbox, tenant_tx};
use mesh_types::event::Fact;
use mesh_types::{MemoryId, Problem, Tenant, Timestamp};
use tokio::sync::watch;

use crate::bus::memory_erase;
use crate::state::State;
use crate::store::{erase, erasures, expiry};

/// Memories of one pass.
const BATCH: i64 = 500;
/// Erasures of one pass.
const ERASURES: i64 = 4;
/// Whoever asked for an erasure works at it himself, for as long as a request may take.
const ERASURE_REST: Duration = Duration::from_secs(60);
const ACTOR: &str = "service:memory";

/// When the next memory's time is over, if one's will be.
pub(super) type Next = watch::Sender<Option<Timestamp>>;

pub(super) async fn pass(state: Arc<State>, next: Arc<Next>) -> PassReport {
    let now = state.now();
    let due = match expiry::due(&state.pool, now, BATCH).await {
        Ok(due) => due,
        Err(error) => return PassReport::failed(error),
    };
    let mut report = PassReport::planned(due.len());
    let is_full = i64::try_from(due.len()).is_ok_and(|count| count == BATCH);
    let mut by_tenant: BTreeMap<Tenant, Vec<MemoryId>> = BTreeMap::new();
    for (tenant, id) in due {
        by_tenant.entry(tenant).or_default().push(id);
    }
    for (tenant, ids) in by_tenant {
        if let Err(error) = expire(&state, &tenant, &ids, now).await {
            report.error.get_or_insert(error);
        }
    }
    if let Err(error) = end_erasures(&state, now).await {
        report.error.get_or_insert(error);
    }
    match expiry::next(&state.pool).await {
        Ok(at) => _ = next.send_replace(at),
        Err(error) => _ = report.error.get_or_insert(error.to_string()),
    }
    if is_full && report.error.is_none() {
        state.expire_bell.ring();
    }
    report
}

async fn expire(state: &State, tenant: &Tenant, ids: &[MemoryId], now: Timestamp) -> Result<(), String> {
    let database = |error: sqlx::Error| error.to_string();
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database)?;
    let ids = expiry::lock_expired(&mut tx, tenant, ids, now)
        .await
        .map_err(database)?;
    let gone = erase::remove(&mut tx, tenant, &ids, now).await.map_err(database)?;
    let any = !gone.is_empty();
    for (memory, agent) in gone {
        let agent = agent.parse().map_err(|error| format!("agent of {memory}: {error}"))?;
        let event = state.event(tenant, ACTOR, Fact::MemoryExpired { memory, agent });
        Outbox::MEMORY.append(&mut tx, &event).await.map_err(database)?;
    }
    tx.commit().await.map_err(database)?;
    if any {
        state.outbox_bell.ring();
    }
    Ok(())
}

async fn end_erasures(state: &State, now: Timestamp) -> Result<(), String> {
    let rest = i64::try_from(ERASURE_REST.as_micros()).unwrap_or(i64::MAX);
    let before = Timestamp::from_micros(now.as_micros().saturating_sub(rest));
    let open = erasures::open(&state.pool, before, ERASURES)
        .await
        .map_err(|error| error.to_string())?;
    for (tenant, id) in open {
        let receipt = memory_erase::run(state, &tenant, id)
            .await
            .map_err(|problem: Problem| problem.to_string())?;
        tracing::info!(%id, forgotten = receipt.forgotten, "an interrupted erasure is at its end");
    }
    Ok(())
}

/// Rings when the time comes that the last pass saw.
pub(super) async fn alarm(state: Arc<State>, mut next: watch::Receiver<Option<Timestamp>>) {
    let bell: Doorbell = state.expire_bell.clone();
    loop {
        let due = *next.borrow_and_update();
        let ring = async {
            match due {
                Some(at) => tokio::time::sleep(at.since(state.now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = next.changed() => if changed.is_err() { return },
            () = state.context.shutdown.cancelled() => return,
            () = ring => {
                bell.ring();
                // The pass that this wakes says when the next one is due.
                tokio::select! {
                    changed = next.changed() => if changed.is_err() { return },
                    () = state.context.shutdown.cancelled() => return,
                }
            }
        }
    }
}
