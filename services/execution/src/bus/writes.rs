//! Commands: accept, cancel, settle a dead letter, give a shard away.

use std::sync::Arc;
use std::time::Duration;

use mesh_api::Caller;
use mesh_api::execution::{AcceptRequest, CancelRequest, DeadLetter, DeadLetterRequest, Invocation};
use mesh_types::{Code, Problem, Subject};
use tokio::sync::oneshot;

use super::reads::{dead_letter, not_found};
use super::{HandOverReply, HandOverRequest};
use crate::directory::Owner;
use crate::lane::command::{Cancel, Command, moved};
use crate::shards::ShardId;
use crate::state::State;
use crate::steward::HandOver;
use crate::store::{dead_letters, shards};

const CANCEL_DEADLINE: Duration = Duration::from_secs(5);
/// Together a little less than the endpoint's deadline, and longer than a takeover.
const CANCEL_TRIES: u32 = 25;
const CANCEL_PAUSE: Duration = Duration::from_millis(200);
const REASON_MAX: usize = 500;

pub(super) async fn accept(state: &Arc<State>, caller: Caller, request: AcceptRequest) -> Result<Invocation, Problem> {
    let wait = Duration::from_millis(request.wait_ms);
    state
        .router
        .invoke(&caller, &request.agent, request.request, wait)
        .await
}

/// Asked of this very process, which the directory of another names as the owner.
pub(super) async fn accept_here(
    state: &Arc<State>,
    caller: Caller,
    request: AcceptRequest,
) -> Result<Invocation, Problem> {
    let wait = Duration::from_millis(request.wait_ms);
    state
        .router
        .accept_as_owner(&caller, &request.agent, request.request, wait)
        .await
}

pub(super) async fn cancel(state: &Arc<State>, caller: Caller, request: CancelRequest) -> Result<Invocation, Problem> {
    let now = state
        .router
        .read(&caller.tenant, request.id)
        .await?
        .ok_or_else(|| not_found(request.id))?;
    if now.state.is_ended() {
        return Err(Problem::new(
            Code::InvocationEnded,
            format!("{} is {} already", now.id, now.state.as_str()),
        ));
    }
    let shard = shard_of_row(state, &caller, &request).await?;
    let mut tries = 0;
    loop {
        let (problem, is_gone) = match state.directory.owner(shard) {
            Owner::Here => match cancel_in(state, shard, &caller, request.clone()).await {
                Err(problem) => (problem, false),
                ended => return ended,
            },
            Owner::There(instance) => match cancel_there(state, &instance, &caller, &request).await {
                Err(problem) => {
                    let is_gone = problem.is(Code::Unavailable);
                    (problem, is_gone)
                }
                ended => return ended,
            },
            Owner::Nobody => (state.directory.refusal().unwrap_or_else(moved), false),
        };
        tries += 1;
        if tries == CANCEL_TRIES || !(is_gone || problem.is(Code::Moved)) {
            return Err(problem);
        }
        state.directory.ring();
        tokio::time::sleep(CANCEL_PAUSE).await;
    }
}

async fn cancel_there(
    state: &Arc<State>,
    instance: &str,
    caller: &Caller,
    request: &CancelRequest,
) -> Result<Invocation, Problem> {
    let subject = Subject::Execution {
        instance: instance.parse()?,
        command: "cancel".parse()?,
    };
    let bus = &state.context.bus;
    bus.call_at::<mesh_api::execution::InvocationCancel>(&subject, caller, request, CANCEL_DEADLINE)
        .await
}

pub(super) async fn cancel_here(
    state: &Arc<State>,
    caller: Caller,
    request: CancelRequest,
) -> Result<Invocation, Problem> {
    let shard = shard_of_row(state, &caller, &request).await?;
    cancel_in(state, shard, &caller, request).await
}

async fn cancel_in(
    state: &Arc<State>,
    shard: ShardId,
    caller: &Caller,
    request: CancelRequest,
) -> Result<Invocation, Problem> {
    let (answer, answered) = oneshot::channel();
    let reason = request.reason.as_deref().unwrap_or("operator_canceled");
    state.lane(shard).send(Command::Cancel(Cancel {
        id: request.id,
        shard,
        tenant: caller.tenant.clone(),
        actor: caller.actor.clone(),
        reason: reason.chars().filter(|c| *c != '\0').take(REASON_MAX).collect(),
        answer,
    }))?;
    match tokio::time::timeout(CANCEL_DEADLINE, answered).await {
        Ok(Ok(Ok(Some(ended)))) => Ok(ended),
        // It ended meanwhile: the end that won is the answer.
        Ok(Ok(Ok(None))) => state
            .router
            .read(&caller.tenant, request.id)
            .await?
            .ok_or_else(|| not_found(request.id)),
        Ok(Ok(Err(problem))) => Err(problem),
        Ok(Err(_)) => Err(moved()),
        Err(_) => {
            Err(Problem::new(Code::Timeout, "the cancellation is not known to be durable yet").next("cancel it again"))
        }
    }
}

async fn shard_of_row(state: &Arc<State>, caller: &Caller, request: &CancelRequest) -> Result<ShardId, Problem> {
    let read = async {
        let mut tx = mesh_store::tenant_tx(&state.readers, &caller.tenant).await?;
        shards::of_invocation(&mut *tx, request.id).await
    };
    let shard = read
        .await
        .map_err(|error| mesh_store::to_problem(error, "find an invocation"))?;
    shard.map(i16::cast_unsigned).ok_or_else(|| not_found(request.id))
}

pub(super) async fn discard(
    state: &Arc<State>,
    caller: Caller,
    request: DeadLetterRequest,
) -> Result<DeadLetter, Problem> {
    let id = request.id;
    let settled = dead_letters::settle(&state.pool, &caller.tenant, id, "discarded")
        .await
        .map_err(|error| mesh_store::to_problem(error, "settle a dead letter"))?;
    let now = dead_letter(state, caller, request).await?;
    if !settled {
        let how = now.settled.as_deref().unwrap_or("settled");
        return Err(Problem::new(Code::DeadLetterSettled, format!("{id} is {how} already")));
    }
    Ok(now)
}

pub(super) async fn hand_over(
    state: &Arc<State>,
    _caller: Caller,
    request: HandOverRequest,
) -> Result<HandOverReply, Problem> {
    let to: mesh_types::Token = request.to.parse()?;
    let (answer, answered) = oneshot::channel();
    let asked = HandOver {
        to: to.as_str().into(),
        answer,
    };
    let stopped = || Problem::new(Code::Unavailable, "execution is shutting down");
    state.hand_overs.send(asked).map_err(|_| stopped())?;
    state.directory.ring();
    Ok(HandOverReply {
        done: answered.await.map_err(|_| stopped())?,
    })
}
