//! Pause and resume: of one invocation by way of its owner, of an agent, a tenant or all by a row that all owners read.

use std::sync::Arc;

use mesh_api::execution::Empty;
use mesh_api::steering::{PauseRequest, PauseTarget, PauseView};
use mesh_api::{Caller, Page};
use mesh_types::event::Fact;
use mesh_types::{Problem, Timestamp};

use super::steer::steer;
use crate::core::pauses::ALL;
use crate::lane::command::Action;
use crate::state::State;
use crate::store::pauses::{self, PauseRow};

pub(super) async fn pause(state: &Arc<State>, caller: Caller, request: PauseRequest) -> Result<PauseView, Problem> {
    set(state, caller, request, true).await
}

pub(super) async fn resume(state: &Arc<State>, caller: Caller, request: PauseRequest) -> Result<PauseView, Problem> {
    set(state, caller, request, false).await
}

async fn set(state: &Arc<State>, caller: Caller, request: PauseRequest, paused: bool) -> Result<PauseView, Problem> {
    let PauseRequest { target, reason } = request;
    let since = state.context.clock.now();
    let view = PauseView {
        target: target.clone(),
        paused,
        by: caller.actor.clone(),
        reason: reason.clone(),
        since,
    };
    let (tenant, agent) = match &target {
        PauseTarget::Invocation(id) => {
            let action = if paused {
                Action::Pause { reason }
            } else {
                Action::Resume { reason }
            };
            steer(state, &caller, *id, action).await?;
            return Ok(view);
        }
        PauseTarget::Agent(agent) => (caller.tenant.as_str(), agent.as_str()),
        PauseTarget::Tenant => (caller.tenant.as_str(), ALL),
        PauseTarget::All => (ALL, ALL),
    };
    let row = PauseRow {
        tenant: tenant.to_owned(),
        agent: agent.to_owned(),
        by: caller.actor.clone(),
        reason: reason.unwrap_or_default().replace('\0', ""),
        since: since.to_chrono(),
    };
    let fact = fact(&target, paused, row.reason.clone());
    let written = write(state, &caller, &row, paused, fact).await;
    written.map_err(|error| mesh_store::to_problem(error, "write a pause"))?;
    state.ring_pauses().await;
    Ok(view)
}

/// The row and its fact, or neither; what changes nothing is no fact.
async fn write(state: &State, caller: &Caller, row: &PauseRow, paused: bool, fact: Fact) -> Result<(), sqlx::Error> {
    let mut tx = state.pool.begin().await?;
    if pauses::set(&mut *tx, row, paused).await? {
        state.append(&mut tx, caller, fact).await?;
    }
    tx.commit().await?;
    state.events_bell.ring();
    Ok(())
}

fn fact(target: &PauseTarget, paused: bool, reason: String) -> Fact {
    let agent = match target {
        PauseTarget::Agent(agent) => Some(agent.clone()),
        PauseTarget::Invocation(_) | PauseTarget::Tenant | PauseTarget::All => None,
    };
    if paused {
        Fact::PauseSet { agent, reason }
    } else {
        Fact::PauseLifted { agent, reason }
    }
}

pub(super) async fn list(state: &Arc<State>, caller: Caller, _: Empty) -> Result<Page<PauseView>, Problem> {
    let rows = pauses::all(&state.pool).await;
    let rows = rows.map_err(|error| mesh_store::to_problem(error, "read pauses"))?;
    let items = rows
        .into_iter()
        .filter(|row| row.tenant == ALL || row.tenant == caller.tenant.as_str())
        .filter_map(view)
        .collect();
    Ok(Page { items, next: None })
}

fn view(row: PauseRow) -> Option<PauseView> {
    let target = match (row.tenant.as_str(), row.agent.as_str()) {
        (ALL, _) => PauseTarget::All,
        (_, ALL) => PauseTarget::Tenant,
        (_, agent) => PauseTarget::Agent(agent.parse().ok()?),
    };
    Some(PauseView {
        target,
        paused: true,
        by: row.by,
        reason: Some(row.reason).filter(|reason| !reason.is_empty()),
        since: Timestamp::from(row.since),
    })
}
