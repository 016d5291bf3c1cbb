//! `memory-query`, `memory-store` and `memory-batch` as nodes ask them: for the agent, the session and the user of the
//! invocation that they run, and no other's. Who those are is `execution`'s word, never the node's.

use std::sync::Arc;

use mesh_api::memory::{
    Batch, BatchRequest, Memory, MemoryBatch, MemoryQuery, MemoryStore, QueryReply, QueryRequest, Scope, StoreRequest,
};
use mesh_api::node::{Ticket, TicketHeldReply};
use mesh_api::road::{ByNode, Ticketed};
use mesh_api::{Caller, Endpoint};
use mesh_bus::ServiceBuilder;
use mesh_runtime::Roads;
use mesh_store::tenant_tx;
use mesh_types::agent::AgentSpec;
use mesh_types::{Code, MemoryId, NodeId, Problem};

use super::{database, logged, memory_batch, memory_query, memory_store};
use crate::request;
use crate::specs::Specs;
use crate::state::State;
use crate::store::consolidations::{self, Consolidation};

const DOING: &str = "looking whose memories they are";
const SHARES_MEMORIES: &str = "can_share_memories";

struct Road {
    state: Arc<State>,
    roads: Arc<Roads>,
    specs: Arc<Specs>,
}

/// Who asks, and for which invocation.
struct Asker<'a> {
    road: &'a Road,
    node: &'a NodeId,
    endpoint: &'static str,
    ticket: &'a Ticket,
}

pub(super) fn serve(service: ServiceBuilder, state: &Arc<State>) -> ServiceBuilder {
    let road = Arc::new(Road {
        state: Arc::clone(state),
        roads: Roads::new(&state.context),
        specs: Specs::new(&state.context),
    });
    macro_rules! handler {
        ($handler:path) => {{
            let road = Arc::clone(&road);
            move |node, asked| {
                let road = Arc::clone(&road);
                async move { logged($handler(&road, node, asked).await) }
            }
        }};
    }
    service
        .node_endpoint::<ByNode<MemoryQuery>, _, _>(handler!(query))
        .node_endpoint::<ByNode<MemoryStore>, _, _>(handler!(store))
        .node_endpoint::<ByNode<MemoryBatch>, _, _>(handler!(batch))
}

async fn query(
    road: &Road,
    node: NodeId,
    Ticketed { ticket, request }: Ticketed<QueryRequest>,
) -> Result<QueryReply, Problem> {
    let asker = road.asker::<MemoryQuery>(&node, &ticket);
    let caller = asker.admit().await?;
    let what = format!("memories of agent {}", request.agent);
    asker.own(request.agent == ticket.agent, &what)?;
    let filters = &request.filters;
    if filters.session.is_some() || filters.user.is_some() {
        let about = asker.about().await?;
        asker.own(is_its(&filters.session, &about.session), "memories of another session")?;
        asker.own(is_its(&filters.user, &about.user), "memories of another user")?;
    }
    if !request.knowledge.is_empty() {
        let spec = asker.spec().await?;
        let other = request
            .knowledge
            .iter()
            .find(|base| !spec.memory.knowledge.contains(base));
        let what = other.map(|base| format!("knowledge base {base}")).unwrap_or_default();
        asker.own(other.is_none(), &what)?;
    }
    memory_query::handle(&road.state, caller, request).await
}

async fn store(
    road: &Road,
    node: NodeId,
    Ticketed { ticket, request }: Ticketed<StoreRequest>,
) -> Result<Memory, Problem> {
    let asker = road.asker::<MemoryStore>(&node, &ticket);
    let caller = asker.admit().await?;
    let what = format!("a memory of agent {}", request.agent);
    asker.own(request.agent == ticket.agent, &what)?;
    let source = request.source.as_ref();
    let is_own = source.is_none_or(|source| source.invocation == ticket.invocation);
    asker.own(is_own, "a memory of another invocation")?;
    let is_named = request.session.is_some() || request.user.is_some();
    if is_named && !asker.condenses_for(&caller, &request).await? {
        let about = asker.about().await?;
        asker.own(is_its(&request.session, &about.session), "a memory of another session")?;
        asker.own(is_its(&request.user, &about.user), "a memory of another user")?;
    }
    if request.scope == Scope::Tenant {
        let spec = asker.spec().await?;
        let may = spec.capabilities.get(SHARES_MEMORIES).copied().unwrap_or(false);
        asker.own(may, "a memory that all agents share")?;
    }
    let related: Vec<MemoryId> = request
        .supersedes
        .iter()
        .chain(&request.derived_from)
        .copied()
        .collect();
    if !related.is_empty() {
        asker.reaches(&caller, &request, &related).await?;
    }
    memory_store::handle(&road.state, caller, request).await
}

/// Only what this invocation condenses: others' ids can be computed from what they were stored by.
async fn batch(
    road: &Road,
    node: NodeId,
    Ticketed { ticket, request }: Ticketed<BatchRequest>,
) -> Result<Batch, Problem> {
    let asker = road.asker::<MemoryBatch>(&node, &ticket);
    let caller = asker.admit().await?;
    let what = format!("memories of agent {}", request.agent);
    asker.own(request.agent == ticket.agent, &what)?;
    let condensed = asker.condensed(&caller).await?;
    let is_own = condensed.is_some_and(|one| request.ids.iter().all(|id| one.memories.contains(id)));
    asker.own(is_own, "memories that another invocation condenses")?;
    memory_batch::handle(&road.state, caller, request).await
}

impl Road {
    fn asker<'a, E: Endpoint>(&'a self, node: &'a NodeId, ticket: &'a Ticket) -> Asker<'a> {
        Asker {
            road: self,
            node,
            endpoint: E::NAME,
            ticket,
        }
    }
}

impl Asker<'_> {
    async fn admit(&self) -> Result<Caller, Problem> {
        self.road.roads.admit(self.node, self.endpoint, self.ticket).await
    }

    fn own(&self, is_own: bool, what: &str) -> Result<(), Problem> {
        self.road.roads.own(self.node, self.endpoint, is_own, what)
    }

    async fn about(&self) -> Result<Arc<TicketHeldReply>, Problem> {
        self.road.roads.about(self.node, self.ticket).await
    }

    /// What the invocation is pinned to.
    async fn spec(&self) -> Result<Arc<AgentSpec>, Problem> {
        let about = self.about().await?;
        let hash = about
            .artifact
            .as_deref()
            .ok_or_else(|| Problem::new(Code::Unavailable, "what the agent declares is not known now"))?;
        self.road.specs.artifact(&self.ticket.tenant, hash).await
    }

    /// The consolidation that the invocation is.
    async fn condensed(&self, caller: &Caller) -> Result<Option<Consolidation>, Problem> {
        let mut tx = tenant_tx(&self.road.state.pool, &caller.tenant)
            .await
            .map_err(database(DOING))?;
        let one = consolidations::of_invocation(&mut tx, &caller.tenant, self.ticket.invocation)
            .await
            .map_err(database(DOING))?;
        tx.commit().await.map_err(database(DOING))?;
        Ok(one.filter(|one| one.agent == self.ticket.agent))
    }

    /// Whether it stores for the owner whose memories it condenses.
    async fn condenses_for(&self, caller: &Caller, request: &StoreRequest) -> Result<bool, Problem> {
        let owner = request::owner(request)?;
        let condensed = self.condensed(caller).await?;
        Ok(condensed.is_some_and(|one| one.owner == owner))
    }

    /// What a memory replaces or is made of is of its own owner, and stored by this agent.
    async fn reaches(&self, caller: &Caller, request: &StoreRequest, related: &[MemoryId]) -> Result<(), Problem> {
        let owner = request::owner(request)?;
        let mut tx = tenant_tx(&self.road.state.pool, &caller.tenant)
            .await
            .map_err(database(DOING))?;
        let others = consolidations::others(&mut tx, &caller.tenant, (&self.ticket.agent, &owner), related)
            .await
            .map_err(database(DOING))?;
        tx.commit().await.map_err(database(DOING))?;
        self.own(!others, "memories of somebody else")
    }
}

/// Nobody asked for, or the invocation's.
fn is_its(asked: &Option<String>, its: &Option<String>) -> bool {
    asked.is_none() || asked == its
}
