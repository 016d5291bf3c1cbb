//! `memory-forget`: the row is gone, its id stays taken.

use mesh_api::Caller;
use mesh_api::memory::{Forgotten, MemoryRequest};
use mesh_store::{Outbox, tenant_tx};
use mesh_types::Problem;
use mesh_types::event::Fact;

use super::database;
use crate::state::{State, not_found};
use crate::store::memories;

const DOING: &str = "forgetting the memory";

/// Forgetting what is forgotten already answers the same: the first answer may have been lost.
pub(super) async fn handle(state: &State, caller: Caller, request: MemoryRequest) -> Result<Forgotten, Problem> {
    let MemoryRequest { id } = request;
    let tenant = &caller.tenant;
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database(DOING))?;
    let Some(agent) = memories::delete(&mut tx, tenant, id).await.map_err(database(DOING))? else {
        let known = memories::is_forgotten(&mut tx, tenant, id)
            .await
            .map_err(database(DOING))?;
        return if known {
            Ok(Forgotten { id, forgotten: true })
        } else {
            Err(not_found(id))
        };
    };
    memories::mark_forgotten(&mut tx, tenant, id, state.now())
        .await
        .map_err(database(DOING))?;
    let fact = Fact::MemoryForgotten {
        memory: id,
        agent: agent.parse()?,
    };
    let event = state.event(tenant, &caller.actor, fact);
    Outbox::MEMORY.append(&mut tx, &event).await.map_err(database(DOING))?;
    tx.commit().await.map_err(database(DOING))?;
    state.outbox_bell.ring();
    Ok(Forgotten { id, forgotten: true })
}
