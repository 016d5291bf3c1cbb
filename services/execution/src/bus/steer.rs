//! Steering of one invocation, by way of its owner: cancel, signal, decide, pause, resume.

use std::sync::Arc;
use std::time::Duration;

use mesh_api::endpoint::Access;
use mesh_api::execution::{CancelRequest, Invocation};
use mesh_api::journal::About;
use mesh_api::steering::{DecideRequest, SignalRequest};
use mesh_api::{Caller, Endpoint};
use mesh_types::{Code, InvocationId, Problem, Subject};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::reads::not_found;
use crate::directory::Owner;
use crate::lane::command::{Action, Command, Steer, moved};
use crate::shards::ShardId;
use crate::state::State;
use crate::store::shards;

const DEADLINE: Duration = Duration::from_secs(5);
/// Together a little less than the endpoints' deadline, and longer than a takeover.
const TRIES: u32 = 25;
const PAUSE: Duration = Duration::from_millis(200);
const TEXT_MAX: usize = 500;
const NAME_MAX: usize = 256;

/// Endpoint of one instance, which the directory of another names as the owner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SteerHere;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SteerRequest {
    id: InvocationId,
    action: Action,
}

impl Endpoint for SteerHere {
    const SERVICE: &'static str = "execution";
    const NAME: &'static str = "steer";
    type Request = SteerRequest;
    type Reply = Invocation;
    const ACCESS: Access = Access::Service;
}

pub(super) async fn cancel(state: &Arc<State>, caller: Caller, request: CancelRequest) -> Result<Invocation, Problem> {
    let reason = request.reason.as_deref().unwrap_or("operator_canceled");
    let reason = short(reason);
    steer(state, &caller, request.id, Action::Cancel { reason }).await
}

pub(super) async fn signal(state: &Arc<State>, caller: Caller, request: SignalRequest) -> Result<Invocation, Problem> {
    let SignalRequest { id, name, value, key } = request;
    for (field, text) in [("name", Some(&name)), ("key", key.as_ref())] {
        if text.is_some_and(|text| text.is_empty() || text.len() > NAME_MAX || text.contains('\0')) {
            let rule = format!("{field} must have 1 to {NAME_MAX} bytes and no U+0000");
            return Err(Problem::new(Code::InvalidRequest, rule).field(field));
        }
    }
    let about = About::Signal { name, value };
    let key = key.map(|key| format!("signal/{key}"));
    steer(state, &caller, id, Action::Signal { key, about }).await
}

pub(super) async fn decide(state: &Arc<State>, caller: Caller, request: DecideRequest) -> Result<Invocation, Problem> {
    let DecideRequest {
        invocation,
        step,
        decision,
        note,
        output,
    } = request;
    let action = Action::Decide {
        step,
        decision,
        note: note.as_deref().map(short),
        output,
    };
    steer(state, &caller, invocation, action).await
}

/// Asked of this very process.
pub(super) async fn here(state: &Arc<State>, caller: Caller, request: SteerRequest) -> Result<Invocation, Problem> {
    let shard = shard_of(state, &caller, request.id).await?;
    steer_in(state, shard, &caller, request).await
}

/// Looks for the owner as long as a takeover lasts.
pub(super) async fn steer(
    state: &Arc<State>,
    caller: &Caller,
    id: InvocationId,
    action: Action,
) -> Result<Invocation, Problem> {
    let now = state.router.read(&caller.tenant, id).await?;
    let now = now.ok_or_else(|| not_found(id))?;
    if now.state.is_ended() {
        let detail = format!("{} is {} already", now.id, now.state.as_str());
        return Err(Problem::new(Code::InvocationEnded, detail));
    }
    let shard = shard_of(state, caller, id).await?;
    let request = SteerRequest { id, action };
    let mut tries = 0;
    loop {
        let (problem, is_gone) = match state.directory.owner(shard) {
            Owner::Here => match steer_in(state, shard, caller, request.clone()).await {
                Err(problem) => (problem, false),
                done => return done,
            },
            Owner::There(instance) => match steer_there(state, &instance, caller, &request).await {
                Err(problem) => {
                    let is_gone = problem.is(Code::Unavailable);
                    (problem, is_gone)
                }
                done => return done,
            },
            Owner::Nobody => (state.directory.refusal().unwrap_or_else(moved), false),
        };
        tries += 1;
        if tries == TRIES || !(is_gone || problem.is(Code::Moved)) {
            return Err(problem);
        }
        state.directory.ring();
        tokio::time::sleep(PAUSE).await;
    }
}

async fn steer_there(
    state: &Arc<State>,
    instance: &str,
    caller: &Caller,
    request: &SteerRequest,
) -> Result<Invocation, Problem> {
    let subject = Subject::Execution {
        instance: instance.parse()?,
        command: SteerHere::NAME.parse()?,
    };
    let bus = &state.context.bus;
    bus.call_at::<SteerHere>(&subject, caller, request, DEADLINE).await
}

async fn steer_in(
    state: &Arc<State>,
    shard: ShardId,
    caller: &Caller,
    request: SteerRequest,
) -> Result<Invocation, Problem> {
    let SteerRequest { id, action } = request;
    let (answer, answered) = oneshot::channel();
    let steer = Steer {
        id,
        shard,
        tenant: caller.tenant.clone(),
        actor: caller.actor.clone(),
        action,
        letter: None,
        answer,
    };
    state.lane(shard).send(Command::Steer(Box::new(steer)))?;
    match tokio::time::timeout(DEADLINE, answered).await {
        Ok(Ok(Ok(Some(now)))) => Ok(now),
        // It ended meanwhile: the end that won is the answer.
        Ok(Ok(Ok(None))) => {
            let now = state
                .router
                .read(&caller.tenant, id)
                .await?
                .ok_or_else(|| not_found(id))?;
            // Open, and not known there: that process owns the shard no more, and has done nothing.
            if now.state.is_ended() { Ok(now) } else { Err(moved()) }
        }
        Ok(Ok(Err(problem))) => Err(problem),
        Ok(Err(_)) => Err(moved()),
        Err(_) => Err(Problem::new(Code::Timeout, "it is not known to be durable yet").next("send it again")),
    }
}

async fn shard_of(state: &Arc<State>, caller: &Caller, id: InvocationId) -> Result<ShardId, Problem> {
    let read = async {
        let mut tx = mesh_store::tenant_tx(&state.readers, &caller.tenant).await?;
        shards::of_invocation(&mut *tx, id).await
    };
    let shard = read
        .await
        .map_err(|error| mesh_store::to_problem(error, "find an invocation"))?;
    shard.map(i16::cast_unsigned).ok_or_else(|| not_found(id))
}

fn short(text: &str) -> String {
    text.chars().filter(|c| *c != '\0').take(TEXT_MAX).collect()
}
