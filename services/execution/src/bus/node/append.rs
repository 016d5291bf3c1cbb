//! `append`: records of several invocations, each to the lane of its shard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use mesh_api::Endpoint;
use mesh_api::node::{AppendReply, AppendRequest, NextWord, NodeAppend, OneAnswer, OneAppend, WireThen};
use mesh_types::{Code, NodeId, Problem};
use tokio::sync::oneshot;

use super::{AppendHere, committed, holder, pass_on, put, split};
use crate::core::Holder;
use crate::core::append::AppendThen;
use crate::directory::Owner;
use crate::lane::command::{Append, AppendAnswer, Appended, Command, Next};
use crate::state::State;
use crate::store::nodes;

const LANE_DEADLINE: Duration = Duration::from_secs(8);
const PASS_DEADLINE: Duration = Duration::from_secs(10);

pub(super) async fn append(state: &Arc<State>, node: NodeId, request: AppendRequest) -> Result<AppendReply, Problem> {
    let count = request.appends.len();
    let owners = owners(state, &request.appends);
    let incarnation = request.incarnation;
    // With their places in the request, which the answers keep.
    let split = split(state, request.appends.into_iter().enumerate(), |(_, one)| {
        one.ticket.shard
    });
    let mine = async {
        let (places, appends) = split.here.into_iter().unzip::<_, _, Vec<usize>, Vec<_>>();
        (places, all(state, &node, incarnation, appends).await)
    };
    let others = split.there.into_iter().map(|(owner, parts)| {
        let (places, appends) = parts.into_iter().unzip::<_, _, Vec<usize>, Vec<_>>();
        let request = AppendRequest { incarnation, appends };
        let node = &node;
        async move {
            let answered = pass_on::<AppendHere, _>(state, &owner, node, request, PASS_DEADLINE).await;
            (places, answered.map(|reply| reply.answers).unwrap_or_default())
        }
    });
    let (mine, others) = tokio::join!(mine, join_all(others));
    let mut answers = vec![OneAnswer::Unknown; count];
    for (places, answered) in others.into_iter().chain([mine]) {
        for (place, answer) in places.into_iter().zip(answered) {
            answers[place] = answer;
        }
    }
    Ok(AppendReply {
        answers,
        lease_ms: state.config.node_lease_ms,
        owners,
    })
}

pub(super) async fn here(state: &Arc<State>, node: NodeId, request: AppendRequest) -> Result<AppendReply, Problem> {
    Ok(AppendReply {
        answers: all(state, &node, request.incarnation, request.appends).await,
        lease_ms: state.config.node_lease_ms,
        owners: BTreeMap::new(),
    })
}

fn owners(state: &State, appends: &[OneAppend]) -> BTreeMap<u16, String> {
    let owner = |one: &OneAppend| {
        let shard = one.ticket.shard;
        match state.directory.owner(shard) {
            Owner::Here => Some((shard, state.config.instance.clone())),
            Owner::There(instance) => Some((shard, instance.to_string())),
            Owner::Nobody => None,
        }
    };
    appends.iter().filter_map(owner).collect()
}

async fn all(state: &State, node: &NodeId, incarnation: u64, appends: Vec<OneAppend>) -> Vec<OneAnswer> {
    let holder = &holder(node, incarnation);
    join_all(appends.into_iter().map(|one| self::one(state, node, holder, one))).await
}

async fn one(state: &State, node: &NodeId, holder: &Holder, one: OneAppend) -> OneAnswer {
    let ticket = one.ticket.clone();
    if let Err(problem) = state.nodes.tickets.check(node, NodeAppend::NAME, &ticket).await {
        return refused(problem);
    }
    if state.directory.owner(ticket.shard) != Owner::Here {
        // Passed on to a process that owned it a moment ago.
        return OneAnswer::Unknown;
    }
    let after_seq = one.after_seq;
    let mut used = Vec::new();
    let (append, answered) = match command(state, holder, one, &mut used).await {
        Ok(command) => command,
        Err(problem) => return refused(problem),
    };
    if state.lane(ticket.shard).send(Command::Append(append)).is_err() {
        return OneAnswer::Unknown;
    }
    let answer = match tokio::time::timeout(LANE_DEADLINE, answered).await {
        Ok(Ok(Ok(appended))) => ok(appended),
        Ok(Ok(Err(AppendAnswer::Conflict(_)))) => OneAnswer::Conflict,
        Ok(Ok(Err(AppendAnswer::Refused(problem)))) => OneAnswer::Refused(*problem),
        Ok(Ok(Err(AppendAnswer::Stale))) => match committed(state, ticket.invocation, ticket.epoch, holder).await {
            Ok(None) => OneAnswer::Stale,
            // Its journal went back below what the worker knows: no repeat would change that.
            Ok(Some(claimed)) if claimed.seq < after_seq => OneAnswer::Stale,
            // Held still: the lane has lost the shard, or has not loaded it yet.
            Ok(Some(_)) | Err(_) => OneAnswer::Unknown,
        },
        Ok(Err(_)) | Err(_) => OneAnswer::Unknown,
    };
    if !used.is_empty() && answer != OneAnswer::Unknown {
        let cleared = nodes::discard(&state.pool, ticket.invocation, &used).await;
        if let Err(error) = cleared {
            tracing::debug!(%error, "a body that was sent ahead stays until its invocation is pruned");
        }
    }
    answer
}

type Answered = oneshot::Receiver<Result<Appended, AppendAnswer>>;

async fn command(
    state: &State,
    holder: &Holder,
    one: OneAppend,
    used: &mut Vec<Vec<u8>>,
) -> Result<(Append, Answered), Problem> {
    let OneAppend {
        ticket,
        after_seq,
        facts: sent,
        then,
    } = one;
    let mut facts = Vec::with_capacity(sent.len());
    for fact in sent {
        facts.push(put::fetch(state, &ticket, fact, used).await?);
    }
    let then = match then {
        WireThen::GoOn => AppendThen::GoOn,
        WireThen::Wait(items) => AppendThen::Wait(items),
        WireThen::End(ended) => AppendThen::End(put::fetch(state, &ticket, ended, used).await?),
        WireThen::Release => AppendThen::Release,
    };
    let (answer, answered) = oneshot::channel();
    let append = Append {
        id: ticket.invocation,
        shard: ticket.shard,
        epoch: ticket.epoch,
        after_seq,
        holder: Some(holder.clone()),
        facts,
        then,
        answer,
    };
    Ok((append, answered))
}

fn ok(appended: Appended) -> OneAnswer {
    OneAnswer::Ok {
        seq: appended.seq,
        news: appended.news,
        next: match appended.next {
            Next::GoOn => NextWord::GoOn,
            Next::Waiting => NextWord::Waiting,
            Next::Stop => NextWord::Stop,
        },
    }
}

/// What may be otherwise soon is not known yet.
fn refused(problem: Problem) -> OneAnswer {
    if problem.is_transient() || problem.is(Code::Internal) {
        OneAnswer::Unknown
    } else {
        OneAnswer::Refused(problem)
    }
}
