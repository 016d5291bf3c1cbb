//! `memory-update`: new content gets a new vector, in the same statement.

use mesh_api::Caller;
use mesh_api::memory::{Memory, UpdateRequest};
use mesh_store::tenant_tx;
use mesh_types::Problem;

use super::database;
use crate::embed::EmbedError;
use crate::request::check_change;
use crate::state::{State, not_found};
use crate::store::{embed_queue, memories};

const DOING: &str = "changing the memory";

pub(super) async fn handle(state: &State, caller: Caller, request: UpdateRequest) -> Result<Memory, Problem> {
    let UpdateRequest { id, change } = request;
    check_change(&change)?;
    let embedded = match &change.content {
        Some(content) => Some(state.embed_one(content).await),
        None => None,
    };
    let vector = embedded.as_ref().and_then(|result| result.as_ref().ok());
    let tenant = &caller.tenant;
    let now = state.now();
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database(DOING))?;
    let row = memories::update(&mut tx, tenant, id, &change, vector, now)
        .await
        .map_err(database(DOING))?;
    let memory = row.ok_or_else(|| not_found(id))?.try_into()?;
    match &embedded {
        Some(Err(EmbedError::Unavailable(error))) => {
            tracing::warn!(error, "a memory is changed without its vector");
            let next_at = now.plus(state.config.embed_retry(1));
            embed_queue::put(&mut tx, tenant, id, next_at)
                .await
                .map_err(database(DOING))?;
        }
        Some(Ok(_) | Err(EmbedError::Refused(_))) => {
            embed_queue::remove(&mut tx, tenant, id)
                .await
                .map_err(database(DOING))?;
        }
        None => {}
    }
    tx.commit().await.map_err(database(DOING))?;
    if matches!(embedded, Some(Err(_))) {
        state.embed_bell.ring();
    }
    Ok(memory)
}
