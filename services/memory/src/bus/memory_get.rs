//! `memory-get`.

use mesh_api::Caller;
use mesh_api::memory::{Memory, MemoryRequest};
use mesh_store::tenant_tx;
use mesh_types::Problem;

use super::database;
use crate::state::{State, not_found};
use crate::store::memories;

const DOING: &str = "reading the memory";

pub(super) async fn handle(state: &State, caller: Caller, request: MemoryRequest) -> Result<Memory, Problem> {
    let mut tx = tenant_tx(&state.pool, &caller.tenant).await.map_err(database(DOING))?;
    let row = memories::get(&mut tx, &caller.tenant, request.id, state.now())
        .await
        .map_err(database(DOING))?;
    tx.commit().await.map_err(database(DOING))?;
    row.ok_or_else(|| not_found(request.id))?.try_into()
}
