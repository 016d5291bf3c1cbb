//! `alive`: every owner is told all that the node holds, and which part of it to answer for: what an owner gave to the
//! node and does not find there was lost on the way. All of it, because the directory may be behind: a shard that was
//! taken a moment ago is nobody's here, or another one's, and what is held of it is not lost.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use mesh_api::node::{AliveReply, AliveRequest, HeldWork};
use mesh_types::{InvocationId, NodeId, Problem};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{AliveHere, committed, holder, pass_on, split};
use crate::core::Holder;
use crate::directory::Owner;
use crate::lane::command::{Alive, Command};
use crate::shards::SHARDS;
use crate::state::State;

const LANE_DEADLINE: Duration = Duration::from_secs(2);
const PASS_DEADLINE: Duration = Duration::from_millis(2_500);

/// What one owner is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AlivePart {
    incarnation: u64,
    /// What it answers for.
    held: Vec<HeldWork>,
    /// All that the node holds.
    #[serde(default)]
    all: Vec<HeldWork>,
}

pub(super) async fn alive(state: &Arc<State>, node: NodeId, request: AliveRequest) -> Result<AliveReply, Problem> {
    let AliveRequest { incarnation, held: all } = request;
    let mut split = split(state, all.iter().copied(), |held| held.shard);
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
        let all = all.clone();
        async move {
            let asked: Vec<InvocationId> = held.iter().map(|held| held.invocation).collect();
            let part = AlivePart { incarnation, held, all };
            let answered = pass_on::<AliveHere, _>(state, &owner, node, part, PASS_DEADLINE).await;
            answered.unwrap_or_else(|_| AliveReply {
                unanswered: asked,
                ..empty(state)
            })
        }
    });
    let part = AlivePart {
        incarnation,
        held: split.here,
        all: all.clone(),
    };
    let (here, there) = tokio::join!(tell(state, &node, part), join_all(there));
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

pub(super) async fn here(state: &Arc<State>, node: NodeId, part: AlivePart) -> Result<AliveReply, Problem> {
    Ok(tell(state, &node, part).await)
}

fn empty(state: &State) -> AliveReply {
    AliveReply {
        lease_ms: state.config.node_lease_ms,
        stop: Vec::new(),
        unanswered: Vec::new(),
    }
}

/// Every lane of this process is told, each of its shards.
async fn tell(state: &State, node: &NodeId, part: AlivePart) -> AliveReply {
    let AlivePart { incarnation, held, all } = part;
    let holder = &holder(node, incarnation);
    let lane_of = |one: &HeldWork| usize::from(one.shard) % state.lanes.len();
    let mut by_lane: Vec<(HashMap<InvocationId, u32>, HashSet<InvocationId>)> =
        vec![Default::default(); state.lanes.len()];
    for one in all {
        by_lane[lane_of(&one)].0.insert(one.invocation, one.epoch);
    }
    for one in held {
        let (held, asked) = &mut by_lane[lane_of(&one)];
        held.insert(one.invocation, one.epoch);
        asked.insert(one.invocation);
    }
    let told = by_lane
        .into_iter()
        .enumerate()
        .map(|(lane, (held, asked))| self::lane(state, holder, lane, held, asked));
    let mut reply = empty(state);
    for part in join_all(told).await {
        reply.stop.extend(part.stop);
        reply.unanswered.extend(part.unanswered);
    }
    reply
}

async fn lane(
    state: &State,
    holder: &Holder,
    lane: usize,
    held: HashMap<InvocationId, u32>,
    asked: HashSet<InvocationId>,
) -> AliveReply {
    let mut reply = empty(state);
    let (answer, answered) = oneshot::channel();
    let sent = state.lanes[lane].send(Command::Alive(Alive {
        holder: holder.clone(),
        held: held.clone(),
        asked: asked.clone(),
        answer,
    }));
    let stop = match (sent, tokio::time::timeout(LANE_DEADLINE, answered).await) {
        (Ok(()), Ok(Ok(stop))) => stop,
        _ => {
            reply.unanswered.extend(asked);
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
