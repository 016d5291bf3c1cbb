//! Asks for all that a plan is made from: desired of `registry`, seen of `heartbeat`, waiting of `execution`. All or
//! nothing: what did not answer is never taken for an empty answer.

use std::collections::HashMap;

use mesh_api::execution::{Demand, DemandRequest, ExecutionDemand};
use mesh_api::fleet::{NodeAll, NodeEntry, PlacedAll};
use mesh_api::heartbeat::ObservedAll;
use mesh_api::page::{LIMIT_MAX, Page};
use mesh_api::{Endpoint, PageQuery};
use mesh_types::{Problem, Tenant};

use crate::core::{Kept, NodeSeen, Observation};
use crate::state::State;

/// Heartbeats are the largest of what is listed: a page stays far below what one message carries.
const OBSERVED_LIMIT: u32 = 200;
/// More pages than any fleet has: a list that does not end is an error.
const PAGES_MAX: usize = 100_000;

/// # Errors
/// What one of them did not answer, with its name.
pub(crate) async fn observe(state: &State) -> Result<Observation, String> {
    let (nodes, agents, observed, demand) = tokio::join!(
        nodes(state),
        all::<PlacedAll, _>(state, LIMIT_MAX),
        all::<ObservedAll, _>(state, OBSERVED_LIMIT),
        demand(state),
    );
    let say = |service: &'static str| move |problem: Problem| format!("{service} does not answer: {problem}");
    let nodes = nodes.map_err(say("registry"))?;
    let mut agents = agents.map_err(say("registry"))?;
    let observed = observed.map_err(say("heartbeat"))?;
    let mut observed: HashMap<_, _> = observed.into_iter().map(|one| (one.node_id.clone(), one)).collect();
    let mut nodes: Vec<NodeSeen> = nodes
        .into_iter()
        .map(|entry| NodeSeen {
            observed: observed.remove(&entry.node_id),
            entry,
        })
        .collect();
    // Pages are read one after the other: what changed between may stand twice.
    nodes.sort_by(|a, b| a.entry.node_id.cmp(&b.entry.node_id));
    nodes.dedup_by(|a, b| a.entry.node_id == b.entry.node_id);
    agents.sort_by(|a, b| (&a.tenant, &a.agent).cmp(&(&b.tenant, &b.agent)));
    agents.dedup_by(|a, b| (&a.tenant, &a.agent) == (&b.tenant, &b.agent));
    Ok(Observation { nodes, agents, demand })
}

/// All registered nodes, of every tenant.
pub(crate) async fn nodes(state: &State) -> Result<Vec<NodeEntry>, Problem> {
    all::<NodeAll, _>(state, LIMIT_MAX).await
}

/// A registry that knows nothing at all, while replicas run, has lost its memory: nobody is evicted for that.
pub(crate) fn is_plausible(seen: &Observation, kept: &Kept) -> Result<(), String> {
    if seen.nodes.is_empty() && seen.agents.is_empty() && !kept.replicas.is_empty() {
        let count = kept.replicas.len();
        return Err(format!(
            "registry knows neither nodes nor agents, though {count} replicas are assigned: nothing is changed"
        ));
    }
    Ok(())
}

async fn all<E, T>(state: &State, limit: u32) -> Result<Vec<T>, Problem>
where
    E: Endpoint<Request = PageQuery, Reply = Page<T>>,
{
    let caller = state.context.caller(Tenant::default());
    let mut items = Vec::new();
    let mut after = None;
    for _ in 0..PAGES_MAX {
        let query = PageQuery {
            limit: Some(limit),
            after,
        };
        let page = state.context.bus.call::<E>(&caller, &query).await?;
        items.extend(page.items);
        after = page.next;
        if after.is_none() {
            return Ok(items);
        }
    }
    Err(Problem::new(
        mesh_types::Code::Internal,
        format!("the list `{}` of {} does not end", E::NAME, E::SERVICE),
    ))
}

/// What waits. Without an answer nobody knows: then nobody is scaled down, and all else goes on.
async fn demand(state: &State) -> Demand {
    let caller = state.context.caller(Tenant::default());
    let request = DemandRequest::default();
    match state.context.bus.call::<ExecutionDemand>(&caller, &request).await {
        Ok(demand) => demand,
        Err(problem) => {
            tracing::debug!(%problem, "execution does not say what waits");
            Demand::default()
        }
    }
}
