//! `memory-store`: taken for good once it is committed, with its vector or without.

use mesh_api::Caller;
use mesh_api::memory::{Memory, StoreRequest};
use mesh_runtime::MetricName;
use mesh_store::{Outbox, tenant_tx};
use mesh_types::event::Fact;
use mesh_types::{Code, MemoryId, Problem};
use sqlx::PgConnection;

use super::database;
use crate::embed::EmbedError;
use crate::request::{body_hash, check_store, metadata_json};
use crate::state::{State, not_found};
use crate::store::embed_queue;
use crate::store::memories::{self, NewMemory};

const DOING: &str = "storing the memory";

pub(super) async fn handle(state: &State, caller: Caller, request: StoreRequest) -> Result<Memory, Problem> {
    check_store(&request)?;
    let embedded = state.embed_one(&request.content).await;
    let refused = matches!(embedded, Err(EmbedError::Refused(_)));
    let new = NewMemory {
        id: request.id.unwrap_or_else(|| state.context.ids.next()),
        metadata: metadata_json(&request)?,
        body_hash: body_hash(&request)?,
        vector: embedded
            .inspect_err(|error| tracing::warn!(%error, "a memory is stored without its vector"))
            .ok(),
        at: state.now(),
        request: &request,
    };
    let tenant = &caller.tenant;
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database(DOING))?;
    if !memories::insert(&mut tx, tenant, &new).await.map_err(database(DOING))? {
        return repeated(&mut tx, &caller, &new).await;
    }
    if memories::is_forgotten(&mut tx, tenant, new.id)
        .await
        .map_err(database(DOING))?
    {
        // Dropped with its transaction.
        return Err(conflict(new.id, "was forgotten").next("store it under a new id"));
    }
    let waits = new.vector.is_none() && !refused;
    if waits {
        let next_at = new.at.plus(state.config.embed_retry(1));
        embed_queue::put(&mut tx, tenant, new.id, next_at)
            .await
            .map_err(database(DOING))?;
    }
    let fact = Fact::MemoryStored {
        memory: new.id,
        agent: request.agent.clone(),
    };
    let event = state.event(tenant, &caller.actor, fact);
    Outbox::MEMORY.append(&mut tx, &event).await.map_err(database(DOING))?;
    let memory = read(&mut tx, &caller, new.id).await?;
    tx.commit().await.map_err(database(DOING))?;
    state.outbox_bell.ring();
    if waits {
        state.embed_bell.ring();
    }
    state
        .context
        .metrics
        .counter(MetricName::MemoriesStored)
        .add(1, &[("type", request.kind.as_str())]);
    Ok(memory)
}

/// The id is taken: the same body gets the memory as it is now, another one is refused.
async fn repeated(tx: &mut PgConnection, caller: &Caller, new: &NewMemory<'_>) -> Result<Memory, Problem> {
    match memories::body_hash(tx, &caller.tenant, new.id)
        .await
        .map_err(database(DOING))?
    {
        Some(hash) if hash == new.body_hash => read(tx, caller, new.id).await,
        Some(_) => Err(conflict(new.id, "has another body")),
        None => Err(not_found(new.id).next("it was forgotten meanwhile")),
    }
}

fn conflict(id: MemoryId, what: &str) -> Problem {
    Problem::new(Code::MemoryConflict, format!("memory `{id}` {what}")).field("id")
}

async fn read(tx: &mut PgConnection, caller: &Caller, id: MemoryId) -> Result<Memory, Problem> {
    let row = memories::get(tx, &caller.tenant, id).await.map_err(database(DOING))?;
    row.ok_or_else(|| not_found(id))?.try_into()
}
