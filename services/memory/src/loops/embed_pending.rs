//! Gives vectors to memories that were taken without one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::PassReport;
use mesh_store::tenant_tx;
use mesh_types::Tenant;

use crate::embed::EmbedError;
use crate::state::State;
use crate::store::embed_queue::{self, Claim};

/// Texts of one pass, and of one call of the embedder.
const BATCH: i64 = 32;
/// Longer than a pass; a process that dies in one leaves its claims to the next after it.
const LEASE: Duration = Duration::from_secs(30);

pub(super) async fn pass(state: Arc<State>) -> PassReport {
    let claims = match embed_queue::claim(&state.pool, state.now(), LEASE, BATCH).await {
        Ok(claims) => claims,
        Err(error) => return PassReport::failed(error),
    };
    let mut report = PassReport::planned(claims.len());
    let is_full = i64::try_from(claims.len()).is_ok_and(|count| count == BATCH);
    let mut by_tenant: BTreeMap<Tenant, Vec<Claim>> = BTreeMap::new();
    for claim in claims {
        by_tenant.entry(claim.tenant.clone()).or_default().push(claim);
    }
    for (tenant, claims) in by_tenant {
        if let Err(error) = embed(&state, &tenant, &claims).await {
            report.error.get_or_insert(error);
        }
    }
    if is_full && report.error.is_none() {
        state.embed_bell.ring();
    }
    report
}

async fn embed(state: &State, tenant: &Tenant, claims: &[Claim]) -> Result<(), String> {
    let database = |error: sqlx::Error| error.to_string();
    let ids: Vec<_> = claims.iter().map(|claim| claim.id).collect();
    // Read in a transaction of its own: none stays open while the embedder works.
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database)?;
    let texts = embed_queue::texts(&mut tx, tenant, &ids).await.map_err(database)?;
    tx.commit().await.map_err(database)?;
    if texts.is_empty() {
        return Ok(());
    }
    let embedded = state
        .embed(texts.iter().map(|text| text.content.clone()).collect())
        .await;
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database)?;
    let result = match embedded {
        Ok(vectors) => {
            for (text, vector) in texts.iter().zip(&vectors) {
                if embed_queue::fill(&mut tx, tenant, text, vector)
                    .await
                    .map_err(database)?
                {
                    embed_queue::remove(&mut tx, tenant, text.id())
                        .await
                        .map_err(database)?;
                }
            }
            Ok(())
        }
        Err(EmbedError::Refused(reason)) if claims.len() == 1 => {
            tracing::warn!(id = %claims[0].id, reason, "a memory can have no vector; it is found by its words");
            embed_queue::remove(&mut tx, tenant, claims[0].id)
                .await
                .map_err(database)
        }
        Err(error) => {
            for claim in claims {
                let next_at = state.now().plus(state.config.embed_retry(claim.attempts));
                embed_queue::postpone(&mut tx, claim, next_at, &error.to_string())
                    .await
                    .map_err(database)?;
            }
            Err(error.to_string())
        }
    };
    tx.commit().await.map_err(database)?;
    result
}
