//! What nodes ask, at `mesh.node.*.execution.*`: one table. Any process hears it; what belongs to a shard of another
//! one is passed on to `mesh.execution.<owner>.node-…`, where no node may ask. Never twice: two stale directories
//! would play ball.

mod alive;
mod append;
mod claim;
mod put;
mod token;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_api::endpoint::Access;
use mesh_api::execution::{AcceptRequest, Invocation, InvocationAccept};
use mesh_api::node::{
    AliveReply, AppendReply, AppendRequest, ClaimReply, ClaimRequest, NodeAlive, NodeAppend, NodeClaim, NodePut,
    NodeWork, TOKEN, Ticket, TicketHeld, TicketHeldReply, TicketHeldRequest, TicketKey, TicketKeyGet, TicketKeyRequest,
};
use mesh_api::road::{ByNode, Ticketed};
use mesh_api::{Caller, Endpoint};
use mesh_bus::ServiceBuilder;
use mesh_runtime::claim_over;
use mesh_types::subject::Filter;
use mesh_types::{Code, InvocationId, NodeId, Problem, Subject, Tenant};
use serde::{Deserialize, Serialize};

use crate::core::Holder;
use crate::directory::Owner;
use crate::shards::ShardId;
use crate::state::State;
use crate::store::nodes::{self, Claimed};

/// A request of a node, on its way to the owner of what it is about.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Passed<T> {
    node: NodeId,
    request: T,
}

macro_rules! passed_on {
    ($($name:ident = $subject:literal, $request:ty => $reply:ty;)*) => {$(
        #[derive(Debug, Clone, Copy)]
        pub(super) struct $name;
        impl Endpoint for $name {
            const SERVICE: &'static str = "execution";
            const NAME: &'static str = $subject;
            type Request = Passed<$request>;
            type Reply = $reply;
            const ACCESS: Access = Access::Service;
        }
    )*};
}
passed_on! {
    ClaimHere = "node-claim", ClaimRequest => ClaimReply;
    AppendHere = "node-append", AppendRequest => AppendReply;
    AliveHere = "node-alive", alive::AlivePart => AliveReply;
}

pub(super) fn serve(service: ServiceBuilder, state: &Arc<State>) -> Result<ServiceBuilder, Problem> {
    macro_rules! handler {
        ($handler:path) => {{
            let state = Arc::clone(state);
            move |node: NodeId, request| {
                let state = Arc::clone(&state);
                async move { $handler(&state, node, request).await }
            }
        }};
    }
    macro_rules! here {
        ($handler:path) => {{
            let state = Arc::clone(state);
            move |_: Caller, Passed { node, request }| {
                let state = Arc::clone(&state);
                async move { $handler(&state, node, request).await }
            }
        }};
    }
    macro_rules! called {
        ($handler:path) => {{
            let state = Arc::clone(state);
            move |caller: Caller, request| {
                let state = Arc::clone(&state);
                async move { $handler(&state, caller, request).await }
            }
        }};
    }
    let at = |name: &str| super::at(state, name);
    let tokens = Filter::Nodes {
        service: "execution".parse()?,
        endpoint: TOKEN.parse()?,
    };
    Ok(service
        .node_endpoint::<NodeClaim, _, _>(handler!(claim::claim))
        .node_endpoint::<NodeAppend, _, _>(handler!(append::append))
        .node_endpoint::<NodeAlive, _, _>(handler!(alive::alive))
        .node_endpoint::<NodePut, _, _>(handler!(put::put))
        .node_endpoint::<NodeWork, _, _>(handler!(work::page))
        .node_endpoint::<ByNode<InvocationAccept>, _, _>(handler!(accept))
        .raw(TOKEN, &tokens, None, token::handler(state))
        .endpoint::<TicketKeyGet, _, _>(called!(key))
        .endpoint::<TicketHeld, _, _>(called!(held))
        .endpoint_at::<ClaimHere, _, _>(&at(ClaimHere::NAME)?, here!(claim::here))
        .endpoint_at::<AppendHere, _, _>(&at(AppendHere::NAME)?, here!(append::here))
        .endpoint_at::<AliveHere, _, _>(&at(AliveHere::NAME)?, here!(alive::here)))
}

/// For whoever checks tickets.
async fn key(state: &Arc<State>, _: Caller, _: TicketKeyRequest) -> Result<TicketKey, Problem> {
    state.nodes.tickets.key().await
}

/// For whoever was asked under a ticket. Committed facts only: any process knows them.
async fn held(state: &Arc<State>, _: Caller, request: TicketHeldRequest) -> Result<TicketHeldReply, Problem> {
    let held = nodes::told_of_held(&state.pool, request.invocation, request.epoch, request.node.as_str()).await;
    held.map_err(|error| mesh_store::to_problem(error, "read who holds an invocation"))
}

/// `Forbidden` for a ticket whose claim is over.
async fn still_held(state: &State, node: &NodeId, ticket: &Ticket) -> Result<(), Problem> {
    match is_held(state, node, ticket.invocation, ticket.epoch).await? {
        true => Ok(()),
        false => Err(claim_over(ticket)),
    }
}

async fn is_held(state: &State, node: &NodeId, id: InvocationId, epoch: u32) -> Result<bool, Problem> {
    let held = nodes::is_held(&state.pool, id, epoch, node.as_str()).await;
    held.map_err(|error| mesh_store::to_problem(error, "read who holds an invocation"))
}

/// An invocation calls another agent, and goes on without it.
async fn accept(
    state: &Arc<State>,
    node: NodeId,
    Ticketed { ticket, request }: Ticketed<AcceptRequest>,
) -> Result<Invocation, Problem> {
    state
        .nodes
        .tickets
        .check(&node, InvocationAccept::NAME, &ticket)
        .await?;
    let caller = state.nodes.roads.admit(&node, InvocationAccept::NAME, &ticket).await?;
    still_held(state, &node, &ticket).await?;
    let request = AcceptRequest { wait_ms: 0, ..request };
    super::writes::accept(state, caller, request).await
}

/// Asks the owner itself.
async fn pass_on<E, T>(
    state: &State,
    owner: &str,
    node: &NodeId,
    request: T,
    deadline: Duration,
) -> Result<E::Reply, Problem>
where
    E: Endpoint<Request = Passed<T>>,
    T: Send + Sync + 'static,
{
    let subject = Subject::Execution {
        instance: owner.parse()?,
        command: E::NAME.parse()?,
    };
    let caller = Caller::service("execution", Tenant::default());
    let passed = Passed {
        node: node.clone(),
        request,
    };
    let answered = state
        .context
        .bus
        .call_at::<E>(&subject, &caller, &passed, deadline)
        .await;
    if answered.is_err() {
        state.directory.ring();
    }
    answered
}

fn holder(node: &NodeId, incarnation: u64) -> Holder {
    Holder {
        node: node.as_str().into(),
        incarnation,
    }
}

/// Where the parts of a request go: by owner, here and elsewhere; nobody's last.
#[derive(Debug)]
struct Split<T> {
    here: Vec<T>,
    there: BTreeMap<Arc<str>, Vec<T>>,
    nobodys: Vec<T>,
}

fn split<T>(state: &State, parts: impl IntoIterator<Item = T>, shard_of: impl Fn(&T) -> ShardId) -> Split<T> {
    let mut split = Split {
        here: Vec::new(),
        there: BTreeMap::new(),
        nobodys: Vec::new(),
    };
    for part in parts {
        match state.directory.owner(shard_of(&part)) {
            Owner::Here => split.here.push(part),
            Owner::There(instance) => split.there.entry(instance).or_default().push(part),
            Owner::Nobody => {
                state.directory.ring();
                split.nobodys.push(part);
            }
        }
    }
    split
}

/// What a lane does not know may be on its way from another owner: a refusal rests on committed facts only.
async fn committed(state: &State, id: InvocationId, epoch: u32, holder: &Holder) -> Result<Option<Claimed>, Problem> {
    let held = nodes::held(&state.pool, id, epoch, holder).await;
    held.map_err(|error| mesh_store::to_problem(error, "read who holds an invocation"))
}

fn silent() -> Problem {
    Problem::new(Code::Unavailable, "the owner does not answer now").next("send it again")
}
