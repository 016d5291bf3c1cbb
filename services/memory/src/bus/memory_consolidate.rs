//! `memory-consolidate`: starts the condensation of an agent's memories now.

use mesh_api::Caller;
use mesh_api::memory::{ConsolidateRequest, Consolidation};
use mesh_store::tenant_tx;
use mesh_types::{Code, Problem};

use super::database;
use crate::loops::consolidate;
use crate::state::State;
use crate::store::consolidations::{self, Pace};

const DOING: &str = "consolidating memories";
const AT_LEAST_MAX: u32 = 1_000;

/// Of the agent itself, its sessions and its users, that which has most memories waiting. One that is under way is
/// answered as it is.
pub(super) async fn handle(
    state: &State,
    caller: Caller,
    request: ConsolidateRequest,
) -> Result<Consolidation, Problem> {
    let ConsolidateRequest { agent, at_least } = request;
    if !(2..=AT_LEAST_MAX).contains(&at_least) {
        let why = format!("{at_least} memories; 2 to {AT_LEAST_MAX} can be asked for");
        return Err(Problem::new(Code::InvalidRequest, why).field("at_least"));
    }
    let mut tx = tenant_tx(&state.pool, &caller.tenant).await.map_err(database(DOING))?;
    let open = consolidations::open(&mut tx, &caller.tenant, Some(&agent))
        .await
        .map_err(database(DOING))?;
    tx.commit().await.map_err(database(DOING))?;
    if let Some(one) = open.first() {
        return Ok(told(one));
    }
    for owner in consolidate::owners(state, &caller.tenant, &agent, at_least).await? {
        let Some(one) = consolidate::begin(state, &caller, &agent, &owner, Pace::Now).await? else {
            continue;
        };
        match consolidate::accept(state, &caller, &one).await {
            Ok(()) => {}
            // It is committed: the loop has it accepted.
            Err(problem) if problem.is_transient() || problem.status >= 500 => {
                tracing::warn!(%problem, invocation = %one.invocation, "a consolidation starts later");
            }
            Err(problem) => return Err(problem),
        }
        return Ok(told(&one));
    }
    Ok(Consolidation {
        invocation: None,
        memories: 0,
    })
}

fn told(one: &consolidations::Consolidation) -> Consolidation {
    Consolidation {
        invocation: Some(one.invocation),
        memories: u32::try_from(one.memories.len()).unwrap_or(u32::MAX),
    }
}
