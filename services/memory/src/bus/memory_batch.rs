//! `memory-batch`: what an agent stored, by ids.

use mesh_api::Caller;
use mesh_api::memory::{BATCH_MAX, Batch, BatchRequest, Memory};
use mesh_store::tenant_tx;
use mesh_types::{Code, Problem};
use serde_json::Map;

use super::database;
use crate::state::State;
use crate::store::consolidations;

const DOING: &str = "reading memories";

/// Without their metadata, which may be many times the content: a reply has room for a hundred of the longest texts.
pub(super) async fn handle(state: &State, caller: Caller, request: BatchRequest) -> Result<Batch, Problem> {
    let BatchRequest { agent, ids } = request;
    if !(1..=BATCH_MAX).contains(&ids.len()) {
        let why = format!("{} ids; 1 to {BATCH_MAX} can be asked for", ids.len());
        return Err(Problem::new(Code::InvalidRequest, why).field("ids"));
    }
    let mut tx = tenant_tx(&state.pool, &caller.tenant).await.map_err(database(DOING))?;
    let rows = consolidations::batch(&mut tx, &caller.tenant, &agent, &ids, state.now())
        .await
        .map_err(database(DOING))?;
    tx.commit().await.map_err(database(DOING))?;
    let bare = |memory: Memory| Memory {
        metadata: Map::new(),
        ..memory
    };
    let items = rows.into_iter().map(|row| Memory::try_from(row).map(bare));
    Ok(Batch {
        items: items.collect::<Result<_, _>>()?,
    })
}
