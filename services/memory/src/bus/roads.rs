//! `memory-query` and `memory-store` as nodes ask them: for the memories of the agent that they run, and no other's.

use std::sync::Arc;

use mesh_api::Endpoint;
use mesh_api::memory::{Memory, MemoryQuery, MemoryStore, QueryReply, QueryRequest, StoreRequest};
use mesh_api::road::{ByNode, Ticketed};
use mesh_bus::ServiceBuilder;
use mesh_runtime::Roads;
use mesh_types::{NodeId, Problem};

use super::{logged, memory_query, memory_store};
use crate::state::State;

pub(super) fn serve(service: ServiceBuilder, state: &Arc<State>) -> ServiceBuilder {
    let roads = Roads::new(&state.context);
    macro_rules! handler {
        ($handler:path) => {{
            let (state, roads) = (Arc::clone(state), Arc::clone(&roads));
            move |node, asked| {
                let (state, roads) = (Arc::clone(&state), Arc::clone(&roads));
                async move { logged($handler(&state, &roads, node, asked).await) }
            }
        }};
    }
    service
        .node_endpoint::<ByNode<MemoryQuery>, _, _>(handler!(query))
        .node_endpoint::<ByNode<MemoryStore>, _, _>(handler!(store))
}

async fn query(
    state: &State,
    roads: &Roads,
    node: NodeId,
    Ticketed { ticket, request }: Ticketed<QueryRequest>,
) -> Result<QueryReply, Problem> {
    let caller = roads.admit(&node, MemoryQuery::NAME, &ticket).await?;
    let what = format!("memories of agent {}", request.agent);
    roads.own(&node, MemoryQuery::NAME, request.agent == ticket.agent, &what)?;
    memory_query::handle(state, caller, request).await
}

async fn store(
    state: &State,
    roads: &Roads,
    node: NodeId,
    Ticketed { ticket, request }: Ticketed<StoreRequest>,
) -> Result<Memory, Problem> {
    let caller = roads.admit(&node, MemoryStore::NAME, &ticket).await?;
    let what = format!("a memory of agent {}", request.agent);
    roads.own(&node, MemoryStore::NAME, request.agent == ticket.agent, &what)?;
    let source = request.source.as_ref();
    let is_own = source.is_none_or(|source| source.invocation == ticket.invocation);
    roads.own(&node, MemoryStore::NAME, is_own, "a memory of another invocation")?;
    memory_store::handle(state, caller, request).await
}
