//! `agent-create`, `agent-get`, `agent-list`, `agent-update`, `agent-delete`: the declared objects.

use std::str::FromStr;
use std::sync::Arc;

use mesh_api::registry::{AgentDeleted, AgentGuarded, AgentRequest, AgentUpdateRequest, AgentView, Missing};
use mesh_api::{Caller, Page, PageQuery};
use mesh_types::agent::Agent;
use mesh_types::event::{Change, Fact};
use mesh_types::{AgentName, Code, Problem, Tenant};
use serde_json::Value;
use sqlx::PgConnection;

use super::{REPLY_BYTES_MAX, chunk, tenants};
use crate::agents::{Declared, Stored};
use crate::state::{State, failed};
use crate::store::agents as store;

pub(super) async fn create(state: Arc<State>, caller: Caller, agent: Agent) -> Result<AgentView, Problem> {
    let declared = Declared::new(agent, &caller.tenant)?;
    let mut tx = state.begin(&caller.tenant).await?;
    tenants::require(&state, &mut tx, &caller).await?;
    if !insert(&state, &mut tx, &caller, &declared).await? {
        let name = &declared.agent.metadata.name;
        return Err(
            Problem::new(Code::AgentAlreadyExists, format!("there is an agent `{name}` already"))
                .field("metadata.name")
                .next(format!(
                    "choose another name, or change the existing one: mesh apply, PUT …/agents/{name}"
                )),
        );
    }
    let stored = read(&mut tx, &caller.tenant, &declared.agent.metadata.name).await?;
    state.commit(tx).await?;
    Ok(stored.view())
}

pub(super) async fn get(state: Arc<State>, caller: Caller, request: AgentRequest) -> Result<AgentView, Problem> {
    let mut tx = state.begin(&caller.tenant).await?;
    tenants::check(&state, &mut tx, &caller.tenant).await?;
    let stored = read(&mut tx, &caller.tenant, &request.agent).await?;
    Ok(stored.view())
}

pub(super) async fn list(state: Arc<State>, caller: Caller, query: PageQuery) -> Result<Page<AgentView>, Problem> {
    let limit = query.limit();
    let mut after: Option<AgentName> = cursor(query.after.as_deref())?;
    let mut tx = state.begin(&caller.tenant).await?;
    tenants::check(&state, &mut tx, &caller.tenant).await?;
    let mut items: Vec<Stored> = Vec::new();
    let mut bytes = 0;
    while items.len() <= limit as usize && bytes <= REPLY_BYTES_MAX {
        let wanted = chunk(limit, items.len());
        let rows = store::list(&mut tx, &caller.tenant, after.as_ref(), wanted)
            .await
            .map_err(failed("listing agents"))?;
        let is_last = i64::try_from(rows.len()).unwrap_or(i64::MAX) < wanted;
        bytes += rows.iter().map(|agent| agent.declared.json.len()).sum::<usize>();
        items.extend(rows);
        after = items.last().map(|agent| agent.declared.agent.metadata.name.clone());
        if is_last {
            break;
        }
    }
    let keep = super::fitting(items.iter().map(|agent| agent.declared.json.len()), limit);
    Ok(Page::cut(items.iter().map(Stored::view).collect(), keep, |view| {
        view.metadata.name.to_string()
    }))
}

pub(super) async fn update(
    state: Arc<State>,
    caller: Caller,
    request: AgentUpdateRequest,
) -> Result<AgentView, Problem> {
    let declared = Declared::new(request.agent, &caller.tenant)?;
    let name = declared.agent.metadata.name.clone();
    let mut tx = state.begin(&caller.tenant).await?;
    // What is to be replaced must be there: with If-Match, and with PUT.
    let may_create = request.missing == Missing::Create && request.if_match.is_none();
    if may_create {
        tenants::require(&state, &mut tx, &caller).await?;
    } else {
        tenants::check(&state, &mut tx, &caller.tenant).await?;
    }
    if !(may_create && insert(&state, &mut tx, &caller, &declared).await?) {
        let stored = lock_guarded(&mut tx, &caller.tenant, &name, request.if_match.as_deref()).await?;
        // The same object again is no change: no generation, no event.
        if stored.declared.json != declared.json {
            let at = state.context.clock.now();
            store::replace(&mut tx, &caller.tenant, &declared, at)
                .await
                .map_err(failed("updating an agent"))?;
            let fact = Fact::AgentUpdated {
                agent: name.clone(),
                generation: stored.generation + 1,
            };
            let change = Change {
                before: shown(&stored.declared),
                after: shown(&declared),
            };
            state.record_change(&mut tx, &caller, fact, change).await?;
        }
    }
    let stored = read(&mut tx, &caller.tenant, &name).await?;
    state.commit(tx).await?;
    Ok(stored.view())
}

pub(super) async fn delete(state: Arc<State>, caller: Caller, request: AgentGuarded) -> Result<AgentDeleted, Problem> {
    let name = request.agent;
    let mut tx = state.begin(&caller.tenant).await?;
    tenants::check(&state, &mut tx, &caller.tenant).await?;
    let stored = lock_guarded(&mut tx, &caller.tenant, &name, request.if_match.as_deref()).await?;
    store::delete(&mut tx, &caller.tenant, &name)
        .await
        .map_err(failed("deleting an agent"))?;
    let fact = Fact::AgentDeleted { agent: name.clone() };
    let change = Change {
        before: shown(&stored.declared),
        ..Change::default()
    };
    state.record_change(&mut tx, &caller, fact, change).await?;
    state.commit(tx).await?;
    state.pointers.show(&state, &caller.tenant, &name).await;
    Ok(AgentDeleted {
        agent: name,
        deleted: true,
    })
}

/// The declared object for the audit.
fn shown(declared: &Declared) -> Value {
    serde_json::from_str(&declared.json).unwrap_or_default()
}

/// Declares it if the name is free; whether it was.
async fn insert(state: &State, tx: &mut PgConnection, caller: &Caller, declared: &Declared) -> Result<bool, Problem> {
    let at = state.context.clock.now();
    let inserted = store::insert(tx, &caller.tenant, declared, at)
        .await
        .map_err(failed("creating an agent"))?;
    if inserted {
        let agent = declared.agent.metadata.name.clone();
        let change = Change {
            after: shown(declared),
            ..Change::default()
        };
        state
            .record_change(tx, caller, Fact::AgentCreated { agent }, change)
            .await?;
    }
    Ok(inserted)
}

/// Locks the agent's row and checks the caller's etag against it.
pub(super) async fn lock_guarded(
    tx: &mut PgConnection,
    tenant: &Tenant,
    name: &AgentName,
    if_match: Option<&str>,
) -> Result<Stored, Problem> {
    let stored = store::get_locked(tx, tenant, name)
        .await
        .map_err(failed("locking an agent"))?;
    let stored = stored.ok_or_else(|| missing(tenant, name))?;
    stored.check(if_match)?;
    Ok(stored)
}

async fn read(tx: &mut PgConnection, tenant: &Tenant, name: &AgentName) -> Result<Stored, Problem> {
    let stored = store::get(tx, tenant, name).await.map_err(failed("reading an agent"))?;
    stored.ok_or_else(|| missing(tenant, name))
}

pub(super) fn missing(tenant: &Tenant, name: &AgentName) -> Problem {
    Problem::new(Code::AgentNotFound, format!("tenant `{tenant}` has no agent `{name}`"))
        .field("agent")
        .next("mesh get agents lists the agents there are; mesh apply -f FILE declares one")
}

/// `after` of a list whose cursor is a name or a number.
pub(super) fn cursor<T: FromStr>(after: Option<&str>) -> Result<Option<T>, Problem> {
    after.map(str::parse).transpose().map_err(|_| {
        Problem::new(Code::InvalidRequest, "`after` is no cursor of this list")
            .field("after")
            .next("pass the `next` of the page before as it came")
    })
}
