//! Starts an invocation of an agent once enough of its episodic memories wait, and learns how each ended. What an agent
//! wants (`spec.memory.consolidate_after`) is read from the registry, which alone knows it: passed along with each
//! memory it would be as old as the last of them.

use std::sync::Arc;
use std::time::Duration;

use mesh_api::Caller;
use mesh_api::execution::{
    AcceptRequest, InvocationAccept, InvocationGet, InvocationRequest, InvokeRequest, State as Of,
};
use mesh_api::memory::{CONSOLIDATE_ENTRYPOINT, ConsolidationPayload};
use mesh_runtime::PassReport;
use mesh_store::tenant_tx;
use mesh_types::{AgentName, Code, Problem, Tenant};
use serde_json::{Map, Value, json};

use crate::specs::Specs;
use crate::state::State;
use crate::store::consolidations::{self, Consolidation, End, Pace, Start};

/// Below that of people's requests: nobody waits for it.
const PRIORITY: u8 = 2;
/// Before an owner's next try after a failure; doubles, up to a day.
const RETRY: Duration = Duration::from_secs(60);
const RETRY_MAX: Duration = Duration::from_secs(24 * 3_600);
const DOING: &str = "consolidating memories";

pub(super) async fn pass(state: Arc<State>, specs: Arc<Specs>) -> PassReport {
    let tenants = match consolidations::tenants(&state.pool).await {
        Ok(tenants) => tenants,
        Err(error) => return PassReport::failed(error),
    };
    let mut report = PassReport::planned(0);
    for tenant in &tenants {
        match of_tenant(&state, &specs, tenant).await {
            Ok(started) => report.plan_size += started,
            // The others go on.
            Err(problem) => _ = report.error.get_or_insert(format!("tenant {tenant}: {problem}")),
        }
    }
    report
}

/// How many were started.
async fn of_tenant(state: &State, specs: &Specs, tenant: &Tenant) -> Result<usize, Problem> {
    let caller = state.context.caller(tenant.clone());
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database)?;
    let open = consolidations::open(&mut tx, tenant, None).await.map_err(database)?;
    let agents = consolidations::agents(&mut tx, tenant).await.map_err(database)?;
    tx.commit().await.map_err(database)?;
    for one in &open {
        follow(state, &caller, one).await?;
    }
    let mut started = 0;
    for agent in &agents {
        let spec = specs.published(tenant, agent).await?;
        let after = spec.map_or(0, |spec| spec.memory.consolidate_after);
        if after < 2 {
            continue;
        }
        for owner in owners(state, tenant, agent, after).await? {
            if let Some(one) = begin(state, &caller, agent, &owner, Pace::Paced).await? {
                accept(state, &caller, &one).await?;
                started += 1;
            }
        }
    }
    Ok(started)
}

pub(crate) async fn owners(
    state: &State,
    tenant: &Tenant,
    agent: &AgentName,
    at_least: u32,
) -> Result<Vec<String>, Problem> {
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database)?;
    let owners = consolidations::owners(&mut tx, tenant, agent, at_least, state.now())
        .await
        .map_err(database)?;
    tx.commit().await.map_err(database)?;
    Ok(owners)
}

/// Commits which memories which invocation will take. Its id is minted with them, so that whoever accepts it, once or
/// again after a crash, accepts the same one.
pub(crate) async fn begin(
    state: &State,
    caller: &Caller,
    agent: &AgentName,
    owner: &str,
    pace: Pace,
) -> Result<Option<Consolidation>, Problem> {
    let start = Start {
        tenant: &caller.tenant,
        agent,
        owner,
        invocation: state.context.ids.next(),
        actor: &caller.actor,
        now: state.now(),
    };
    let mut tx = tenant_tx(&state.pool, &caller.tenant).await.map_err(database)?;
    let begun = consolidations::start(&mut tx, start, pace).await.map_err(database)?;
    if begun.is_some() {
        tx.commit().await.map_err(database)?;
    }
    Ok(begun)
}

/// Idempotent by the id. What can never be accepted gives its memories back.
pub(crate) async fn accept(state: &State, caller: &Caller, one: &Consolidation) -> Result<(), Problem> {
    let payload = ConsolidationPayload {
        memories: one.memories.clone(),
    };
    let mut context = Map::new();
    if let Some(user) = one.owner.strip_prefix("u:") {
        context.insert("user".to_owned(), Value::from(user));
    }
    let request = AcceptRequest {
        agent: one.agent.clone(),
        request: InvokeRequest {
            payload: json!(payload),
            entrypoint: Some(CONSOLIDATE_ENTRYPOINT.to_owned()),
            invocation_id: Some(one.invocation),
            priority: Some(PRIORITY),
            context,
            ..InvokeRequest::default()
        },
        wait_ms: 0,
    };
    match state.context.bus.call::<InvocationAccept>(caller, &request).await {
        Ok(_) => Ok(()),
        Err(problem) if problem.is_transient() || problem.status >= 500 => Err(problem),
        Err(problem) => {
            tracing::warn!(agent = %one.agent, %problem, "memories cannot be consolidated");
            settle(state, &caller.tenant, one, End::Failed).await?;
            Err(problem)
        }
    }
}

/// Looks how it stands; one that was never accepted is accepted now.
async fn follow(state: &State, caller: &Caller, one: &Consolidation) -> Result<(), Problem> {
    let request = InvocationRequest { id: one.invocation };
    let now = match state.context.bus.call::<InvocationGet>(caller, &request).await {
        Ok(invocation) => invocation.state,
        // Whoever began it died before it was accepted.
        Err(problem) if problem.is(Code::InvocationNotFound) => {
            // Refused for good, it is settled, and no failure of the pass.
            return match accept(state, caller, one).await {
                Err(problem) if problem.is_transient() || problem.status >= 500 => Err(problem),
                Ok(()) | Err(_) => Ok(()),
            };
        }
        Err(problem) => return Err(problem),
    };
    match now {
        Of::Queued | Of::Running | Of::Waiting => Ok(()),
        Of::Completed => settle(state, &caller.tenant, one, End::Done).await,
        Of::Failed | Of::Cancelled | Of::Dead => {
            tracing::warn!(invocation = %one.invocation, agent = %one.agent, state = now.as_str(),
                "memories were not consolidated; they wait again");
            settle(state, &caller.tenant, one, End::Failed).await
        }
    }
}

async fn settle(state: &State, tenant: &Tenant, one: &Consolidation, end: End) -> Result<(), Problem> {
    let now = state.now();
    let next_at = match end {
        End::Done => now,
        End::Failed => now.plus(RETRY.saturating_mul(1 << one.failures.min(16)).min(RETRY_MAX)),
    };
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database)?;
    consolidations::settle(&mut tx, tenant, one.invocation, end, next_at)
        .await
        .map_err(database)?;
    tx.commit().await.map_err(database)
}

fn database(error: sqlx::Error) -> Problem {
    mesh_store::to_problem(error, DOING)
}
