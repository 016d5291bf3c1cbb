//! Commands: accept, settle a dead letter, give a shard away.

use std::sync::Arc;
use std::time::Duration;

use mesh_api::Caller;
use mesh_api::execution::{AcceptRequest, DeadLetter, DeadLetterRequest, Invocation};
use mesh_types::event::Fact;
use mesh_types::{Code, Problem};
use tokio::sync::oneshot;

use super::reads::dead_letter;
use super::{HandOverReply, HandOverRequest};
use crate::state::State;
use crate::steward::HandOver;
use crate::store::dead_letters;

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

pub(super) async fn discard(
    state: &Arc<State>,
    caller: Caller,
    request: DeadLetterRequest,
) -> Result<DeadLetter, Problem> {
    let id = request.id;
    let write = async {
        let mut tx = state.pool.begin().await?;
        let settled = dead_letters::settle(&mut *tx, &caller.tenant, id, "discarded").await?;
        if settled {
            let fact = Fact::DeadLetterDiscarded { dead_letter: id };
            state.append(&mut tx, &caller, fact).await?;
        }
        tx.commit().await.map(|()| settled)
    };
    let settled = write
        .await
        .map_err(|error| mesh_store::to_problem(error, "settle a dead letter"))?;
    state.events_bell.ring();
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
