//! Gives vectors to memories and pieces of documents that were taken without one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use mesh_runtime::PassReport;
use mesh_store::tenant_tx;
use mesh_types::Tenant;

use crate::embed::EmbedError;
use crate::state::State;
use crate::store::embed_queue::{self, Claim, Text};

/// Texts of one call of the embedder.
const BATCH: usize = 32;
/// Calls at once, all of one pass.
const CALLS: usize = 4;
const CLAIMS: usize = BATCH * CALLS;
/// Longer than a pass; a process that dies in one leaves its claims to the next after it.
const LEASE_SPARE: Duration = Duration::from_secs(30);

pub(super) async fn pass(state: Arc<State>) -> PassReport {
    let lease = state.config.embed_batch_timeout() + LEASE_SPARE;
    let claims = match embed_queue::claim(&state.pool, state.now(), lease, CLAIMS as i64).await {
        Ok(claims) => claims,
        Err(error) => return PassReport::failed(error),
    };
    let mut report = PassReport::planned(claims.len());
    let is_full = claims.len() == CLAIMS;
    let mut by_tenant: BTreeMap<Tenant, Vec<Claim>> = BTreeMap::new();
    for claim in claims {
        by_tenant.entry(claim.tenant.clone()).or_default().push(claim);
    }
    let batches = by_tenant.into_iter().flat_map(|(tenant, claims)| {
        let batches: Vec<_> = claims.chunks(BATCH).map(<[Claim]>::to_vec).collect();
        batches.into_iter().map(move |batch| (tenant.clone(), batch))
    });
    let work = batches.map(|(tenant, batch)| embed(&state, tenant, batch));
    let results: Vec<_> = stream::iter(work).buffer_unordered(CALLS).collect().await;
    report.error = results.into_iter().find_map(Result::err);
    if is_full && report.error.is_none() {
        state.embed_bell.ring();
    } else if report.plan_size > 0 {
        // The queue is at its end: some tenant's texts may all have the current model's vectors now.
        state.reembed_bell.ring();
    }
    report
}

async fn embed(state: &State, tenant: Tenant, claims: Vec<Claim>) -> Result<(), String> {
    let database = |error: sqlx::Error| error.to_string();
    // Read in a transaction of its own: none stays open while the embedder works.
    let mut tx = tenant_tx(&state.pool, &tenant).await.map_err(database)?;
    let texts = embed_queue::texts(&mut tx, &tenant, &claims).await.map_err(database)?;
    tx.commit().await.map_err(database)?;
    match embed_texts(state, &tenant, &texts).await {
        // One of them is to blame: each is asked for alone.
        Err(Failure::Embedder(EmbedError::Refused(_))) if texts.len() > 1 => {
            for text in texts {
                settle(state, &tenant, std::slice::from_ref(&text)).await?;
            }
            Ok(())
        }
        Err(Failure::Embedder(error)) => postpone(state, &tenant, &texts, &error).await,
        Err(Failure::Database(error)) => Err(database(error)),
        Ok(()) => Ok(()),
    }
}

enum Failure {
    Embedder(EmbedError),
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

async fn settle(state: &State, tenant: &Tenant, texts: &[Text]) -> Result<(), String> {
    match embed_texts(state, tenant, texts).await {
        Err(Failure::Embedder(error)) => postpone(state, tenant, texts, &error).await,
        Err(Failure::Database(error)) => Err(error.to_string()),
        Ok(()) => Ok(()),
    }
}

async fn embed_texts(state: &State, tenant: &Tenant, texts: &[Text]) -> Result<(), Failure> {
    if texts.is_empty() {
        return Ok(());
    }
    let contents = texts.iter().map(|text| text.content.clone()).collect();
    let vectors = state.embed_later(tenant, contents).await.map_err(Failure::Embedder)?;
    let embedded: Vec<_> = texts.iter().cloned().zip(vectors).collect();
    let mut tx = tenant_tx(&state.pool, tenant).await?;
    embed_queue::fill(&mut tx, tenant, state.embedder.model(), &embedded).await?;
    tx.commit().await?;
    Ok(())
}

/// Answers with the error when it may go well later; what was refused is settled by that.
async fn postpone(state: &State, tenant: &Tenant, texts: &[Text], error: &EmbedError) -> Result<(), String> {
    let database = |error: sqlx::Error| error.to_string();
    let next_at = |text: &Text| match error {
        EmbedError::Unavailable(_) => Some(state.now().plus(state.config.embed_retry(text.attempts))),
        EmbedError::Refused(reason) => {
            tracing::warn!(item = ?text.item, reason, "a text can have no vector; it is found by its words");
            None
        }
    };
    let items: Vec<_> = texts.iter().map(|text| (text.item, next_at(text))).collect();
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database)?;
    embed_queue::postpone(&mut tx, tenant, &items, &error.to_string())
        .await
        .map_err(database)?;
    tx.commit().await.map_err(database)?;
    match error {
        EmbedError::Unavailable(_) => Err(error.to_string()),
        EmbedError::Refused(_) => Ok(()),
    }
}
