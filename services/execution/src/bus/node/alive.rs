//! `alive`: every owner is told what the node holds of it, also that it is nothing: what an owner gave to it and does
//! not find there was lost on the way.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use mesh_api::node::{AliveReply, AliveRequest, HeldWork};
use mesh_types::{InvocationId, NodeId, Problem};
use tokio::sync::oneshot;

use super::{AliveHere, committed, holder, pass_on, split};
use crate::core::Holder;
use crate::directory::Owner;
use crate::lane::command::{Alive, Command};
use crate::shards::SHARDS;
use crate::state::State;

const LANE_DEADLINE: Duration = Duration::from_secs(2);
const PASS_DEADLINE: Duration = Duration::from_millis(2_500);

pub(super) async fn alive(state: &Arc<State>, node: NodeId, request: AliveRequest) -> Result<AliveReply, Problem> {
    let incarnation = request.incarnation;
    let mut split = split(state, request.held, |held| held.shard);
    let others: BTreeSet<Arc<str>> = (0..SHARDS)
        .filter_map(|shard| match state.directory.owner(shard) {
            Owner::There(instance) => Some(instance),
            Owner::Here | Owner::Nobody => None,
        })
        .collect();
    for other in others {
        split.there.entry(other).or_default();
    }
    let there = split.there.into_iter().map(|(owner, held)| {
        let node = &node;
        async move {
            let all: Vec<InvocationId> = held.iter().map(|held| held.invocation).collect();
            let request = AliveRequest { incarnation, held };
            let answered = pass_on::<AliveHere, _>(state, &owner, node, request, PASS_DEADLINE).await;
            answered.unwrap_or_else(|_| AliveReply {
                unanswered: all,
                ..empty(state)
            })
        }
    });
    let (here, there) = tokio::join!(all(state, &node, incarnation, split.here), join_all(there));
    let mut reply = AliveReply {
        unanswered: split.nobodys.iter().map(|held| held.invocation).collect(),
        ..empty(state)
    };
    for part in there.into_iter().chain([here]) {
        reply.stop.extend(part.stop);
        reply.unanswered.extend(part.unanswered);
    }
    Ok(reply)
}

pub(super) async fn here(state: &Arc<State>, node: NodeId, request: AliveRequest) -> Result<AliveReply, Problem> {
    Ok(all(state, &node, request.incarnation, request.held).await)
}

fn empty(state: &State) -> AliveReply {
    AliveReply {
        lease_ms: state.config.node_lease_ms,
        stop: Vec::new(),
        unanswered: Vec::new(),
    }
}

/// Every lane of this process is asked, each for its part.
async fn all(state: &State, node: &NodeId, incarnation: u64, held: Vec<HeldWork>) -> AliveReply {
    let holder = &holder(node, incarnation);
    let mut by_lane: Vec<HashMap<InvocationId, u32>> = vec![HashMap::new(); state.lanes.len()];
    for one in held {
        let lane = usize::from(one.shard) % state.lanes.len();
        by_lane[lane].insert(one.invocation, one.epoch);
    }
    let asked = by_lane
        .into_iter()
        .enumerate()
        .map(|(lane, held)| self::lane(state, holder, lane, held));
    let mut reply = empty(state);
    for part in join_all(asked).await {
        reply.stop.extend(part.stop);
        reply.unanswered.extend(part.unanswered);
    }
    reply
}

async fn lane(state: &State, holder: &Holder, lane: usize, held: HashMap<InvocationId, u32>) -> AliveReply {
    let mut reply = empty(state);
    let (answer, answered) = oneshot::channel();
    let sent = state.lanes[lane].send(Command::Alive(Alive {
        holder: holder.clone(),
        held: held.clone(),
        answer,
    }));
    let stop = match (sent, tokio::time::timeout(LANE_DEADLINE, answered).await) {
        (Ok(()), Ok(Ok(stop))) => stop,
        _ => {
            reply.unanswered.extend(held.into_keys());
            return reply;
        }
    };
    for id in stop {
        let epoch = held.get(&id).copied().unwrap_or_default();
        match committed(state, id, epoch, holder).await {
            // Held still: the lane has lost the shard, or has not loaded it yet.
            Ok(Some(claimed)) if !claimed.is_cancelling => reply.unanswered.push(id),
            Ok(_) => reply.stop.push(id),
            Err(_) => reply.unanswered.push(id),
        }
    }
    reply
}
