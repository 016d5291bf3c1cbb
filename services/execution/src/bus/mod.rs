//! What `execution` answers on the bus: one table of endpoints.

mod approvals;
mod call;
mod demand;
mod forks;
mod history;
mod live;
mod node;
mod overview;
mod pauses;
mod reads;
mod requeue;
mod steer;
mod travel;
mod writes;

use std::sync::Arc;

use mesh_api::endpoint::Access;
use mesh_api::execution::{
    DeadLetterDiscard, DeadLetterGet, DeadLetterList, ExecutionDemand, ExecutionStatus, InvocationAccept,
    InvocationCancel, InvocationCounts, InvocationFeed, InvocationGet, InvocationList, InvocationSteps,
};
use mesh_api::history::InvocationHistory;
use mesh_api::live::ShardFeed;
use mesh_api::overview::InvocationOverview;
use mesh_api::steering::{
    ApprovalDecide, ApprovalList, DeadLetterRequeue, InvocationCompare, InvocationFork, InvocationReplay,
    InvocationSignal, Pause, Pauses, Resume,
};
use mesh_api::{Caller, Endpoint};
use mesh_bus::ServiceBuilder;
use mesh_types::subject::Filter;
use mesh_types::{Problem, Subject, Token};
use serde::{Deserialize, Serialize};

use crate::post::{Bell, Ring, Rung};
use crate::state::State;

/// Endpoint of one instance: gives a shard to whoever asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HandOverShard;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HandOverRequest {
    pub(crate) to: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HandOverReply {
    pub(crate) done: bool,
}

impl Endpoint for HandOverShard {
    const SERVICE: &'static str = "execution";
    const NAME: &'static str = "hand-over";
    type Request = HandOverRequest;
    type Reply = HandOverReply;
    const ACCESS: Access = Access::Service;
}

/// Every endpoint with its handler.
pub(crate) fn serve(service: ServiceBuilder, state: &Arc<State>) -> Result<ServiceBuilder, Problem> {
    macro_rules! handler {
        ($handler:path) => {{
            let state = Arc::clone(state);
            move |caller: Caller, request| {
                let state = Arc::clone(&state);
                async move { $handler(&state, caller, request).await }
            }
        }};
    }
    let raw = {
        let state = Arc::clone(state);
        move |request| call::call(Arc::clone(&state), request)
    };
    Ok(node::serve(service, state)?
        .endpoint::<InvocationAccept, _, _>(handler!(writes::accept))
        .endpoint::<InvocationCancel, _, _>(handler!(steer::cancel))
        .endpoint::<InvocationSignal, _, _>(handler!(steer::signal))
        .endpoint::<ApprovalDecide, _, _>(handler!(steer::decide))
        .endpoint::<ApprovalList, _, _>(handler!(approvals::list))
        .endpoint::<InvocationFork, _, _>(handler!(forks::fork))
        .endpoint::<InvocationCompare, _, _>(handler!(travel::compare))
        .endpoint::<InvocationReplay, _, _>(handler!(travel::replay))
        .endpoint::<Pause, _, _>(handler!(pauses::pause))
        .endpoint::<Resume, _, _>(handler!(pauses::resume))
        .endpoint::<Pauses, _, _>(handler!(pauses::list))
        .endpoint::<DeadLetterDiscard, _, _>(handler!(writes::discard))
        .endpoint::<DeadLetterRequeue, _, _>(handler!(requeue::requeue))
        .endpoint::<InvocationGet, _, _>(handler!(reads::get))
        .endpoint::<InvocationList, _, _>(handler!(reads::list))
        .endpoint::<InvocationCounts, _, _>(handler!(reads::counts))
        .endpoint::<InvocationOverview, _, _>(handler!(overview::overview))
        .endpoint::<InvocationSteps, _, _>(handler!(reads::steps))
        .endpoint::<InvocationHistory, _, _>(handler!(history::history))
        .endpoint::<InvocationFeed, _, _>(handler!(reads::feed))
        .endpoint::<ShardFeed, _, _>(handler!(live::feed))
        .endpoint::<DeadLetterList, _, _>(handler!(reads::dead_letters))
        .endpoint::<DeadLetterGet, _, _>(handler!(reads::dead_letter))
        .endpoint::<ExecutionStatus, _, _>(handler!(reads::status))
        .endpoint::<ExecutionDemand, _, _>(handler!(demand::demand))
        .endpoint_at::<demand::DemandHere, _, _>(&at(state, demand::DemandHere::NAME)?, handler!(demand::here))
        .endpoint_at::<InvocationAccept, _, _>(&at(state, "accept")?, handler!(writes::accept_here))
        .endpoint_at::<steer::SteerHere, _, _>(&at(state, steer::SteerHere::NAME)?, handler!(steer::here))
        .endpoint_at::<forks::ForkHere, _, _>(&at(state, forks::ForkHere::NAME)?, handler!(forks::here))
        .endpoint_at::<Bell, _, _>(&at(state, Bell::NAME)?, handler!(rung))
        .endpoint_at::<HandOverShard, _, _>(&at(state, "hand-over")?, handler!(writes::hand_over))
        .raw("call", &Filter::Calls, Some("q"), raw))
}

/// Somebody wrote what this process is to read.
async fn rung(state: &Arc<State>, _: Caller, ring: Ring) -> Result<Rung, Problem> {
    match ring {
        Ring::Mail => state.postbox.bell.ring(),
        Ring::Pauses => state.read_pauses().await,
    }
    Ok(Rung {})
}

/// `mesh.execution.<instance>.<command>`: this very process.
fn at(state: &State, command: &str) -> Result<Subject, Problem> {
    let command: Token = command.parse()?;
    Ok(Subject::Execution {
        instance: state.config.instance.parse()?,
        command,
    })
}
