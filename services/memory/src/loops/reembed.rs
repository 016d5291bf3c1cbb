//! Another model: queues what lacks a vector of the current one, tenant by tenant, and drops the others' when a tenant
//! is done. Queries go on meanwhile: what has no vector of the current model yet is found by its words.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::PassReport;
use mesh_types::Tenant;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::EmbedderKind;
use crate::embed::HASH_MODEL;
use crate::state::State;
use crate::store::reembed::{self, Embedded};

/// A tenant that is done is looked through again after so many ticks.
const TICKS_BETWEEN: u32 = 20;

/// Tenants that this process has looked through, and when; each is now and then, whatever it is marked with: a process
/// with another model may have run in between, or may have stored something beside this one before it was stopped.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<HashMap<Tenant, Instant>>);

pub(super) async fn pass(state: Arc<State>, seen: Arc<Seen>) -> PassReport {
    let tenants = match reembed::tenants(&state.pool).await {
        Ok(tenants) => tenants,
        Err(error) => return PassReport::failed(error),
    };
    let mut seen = seen.0.lock().await;
    let between = Duration::from_millis(state.config.reembed_tick_ms).saturating_mul(TICKS_BETWEEN);
    let mut report = PassReport::default();
    for embedded in tenants {
        if state.context.shutdown.is_cancelled() {
            break;
        }
        let is_done = embedded.with.as_deref() == Some(&*state.embedder.model().name);
        let seen_at = seen.get(&embedded.tenant);
        if is_done && seen_at.is_some_and(|at| at.elapsed() < between) {
            continue;
        }
        match look(&state, &embedded, seen_at.is_some()).await {
            Ok(queued) => {
                report.plan_size += usize::try_from(queued).unwrap_or(usize::MAX);
                seen.insert(embedded.tenant, Instant::now());
            }
            Err(error) => report.error = report.error.or(Some(error.to_string())),
        }
    }
    report
}

/// How many texts of the tenant were queued.
async fn look(state: &State, embedded: &Embedded, was_seen: bool) -> Result<u64, sqlx::Error> {
    let Embedded { tenant, with } = embedded;
    let (pool, model) = (&state.pool, state.embedder.model());
    // Everything is queued already; it is looked through again when the queue is empty.
    if was_seen && reembed::is_waiting(pool, tenant).await? {
        return Ok(0);
    }
    let is_current = with.as_deref() == Some(&*model.name);
    if with.is_some() && !is_current {
        tracing::info!(%tenant, from = with, to = &*model.name, "texts get vectors of another model");
    }
    // Not done yet when this process started: a model before, which had not come to its end, may have refused some.
    if !is_current && (with.is_some() || !was_seen) {
        reembed::open(pool, tenant, state.now()).await?;
    }
    let queued = reembed::queue_lacking(pool, tenant, model, state.now()).await?;
    if queued > 0 {
        if is_current {
            reembed::open(pool, tenant, state.now()).await?;
        }
        tracing::info!(%tenant, queued, model = &*model.name, "texts without a vector of the model are queued");
        state.embed_bell.ring();
        return Ok(queued);
    }
    if is_current || reembed::is_waiting(pool, tenant).await? {
        return Ok(0);
    }
    // Hashes stand in where weights or an address went missing: what a real model made, perhaps for money, outlives that.
    let stands_in = state.config.embedder == EmbedderKind::Auto && *model.name == *HASH_MODEL;
    let dropped = match state.config.keep_old_vectors || stands_in {
        true => 0,
        false => reembed::drop_others(pool, tenant, model).await?,
    };
    reembed::close(pool, tenant, model).await?;
    if dropped > 0 {
        tracing::info!(%tenant, dropped, model = &*model.name, "all texts have vectors of the model; others are dropped");
    }
    Ok(0)
}
