//! `memory-forget`: the memory is gone, with what it replaced and what was made of it; their ids stay taken.

use mesh_api::Caller;
use mesh_api::memory::{Forgotten, MemoryRequest};
use mesh_store::{Outbox, tenant_tx};
use mesh_types::Problem;
use mesh_types::event::Fact;

use super::database;
use crate::state::{State, not_found};
use crate::store::{erase, memories};

const DOING: &str = "forgetting the memory";

pub(super) async fn handle(state: &State, caller: Caller, request: MemoryRequest) -> Result<Forgotten, Problem> {
    let MemoryRequest { id } = request;
    let (tenant, now) = (&caller.tenant, state.now());
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database(DOING))?;
    let ids = erase::whole(&mut tx, tenant, id).await.map_err(database(DOING))?;
    if ids.is_empty() {
        let known = memories::is_forgotten(&mut tx, tenant, id)
            .await
            .map_err(database(DOING))?;
        return if known {
            Ok(Forgotten { id, forgotten: true })
        } else {
            Err(not_found(id))
        };
    }
    let gone = erase::remove(&mut tx, tenant, &ids, now)
        .await
        .map_err(database(DOING))?;
    let waiting = erase::free(&mut tx, tenant, &ids, now).await.map_err(database(DOING))?;
    for (memory, agent) in gone {
        let agent = agent.parse()?;
        let event = state.event_of(&caller, Fact::MemoryForgotten { memory, agent });
        Outbox::MEMORY.append(&mut tx, &event).await.map_err(database(DOING))?;
    }
    tx.commit().await.map_err(database(DOING))?;
    state.outbox_bell.ring();
    if waiting > 0 {
        state.embed_bell.ring();
    }
    Ok(Forgotten { id, forgotten: true })
}
