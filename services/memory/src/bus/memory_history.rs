//! `memory-history`: what the memory was before each change, newest first, as much as one answer holds.

use mesh_api::Caller;
use mesh_api::memory::{Memory, MemoryRequest, Revisions};
use mesh_store::tenant_tx;
use mesh_types::Problem;

use super::database;
use crate::state::{State, not_found};
use crate::store::{history, memories};

const DOING: &str = "reading the memory's history";

pub(super) async fn handle(state: &State, caller: Caller, request: MemoryRequest) -> Result<Revisions, Problem> {
    let tenant = &caller.tenant;
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database(DOING))?;
    let row = memories::get(&mut tx, tenant, request.id, state.now())
        .await
        .map_err(database(DOING))?;
    let memory: Memory = row.ok_or_else(|| not_found(request.id))?.try_into()?;
    let items = history::revisions(&mut tx, tenant, memory.id)
        .await
        .map_err(database(DOING))?;
    tx.commit().await.map_err(database(DOING))?;
    Ok(Revisions { memory, items })
}
