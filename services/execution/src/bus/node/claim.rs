//! `claim`: work for a node from the lanes of one owner.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mesh_api::node::{ClaimReply, ClaimRequest, WireGrant};
use mesh_types::{Code, NodeId, Problem};
use tokio::sync::oneshot;

use super::work::{self, Unreadable};
use super::{ClaimHere, holder, pass_on, silent};
use crate::core::Holder;
use crate::lane::command::{Append, Claim, Command, Granted};
use crate::state::State;

/// Grants of one claim; with what they carry along the answer stays below the server's limit.
const GRANTS_MAX: u32 = 16;
/// Bytes that a grant carries along; what is larger is read in pages.
const WORK_BYTES_MAX: usize = 256 * 1024;
const LANE_DEADLINE: Duration = Duration::from_secs(3);
const PASS_DEADLINE: Duration = Duration::from_secs(4);

pub(super) async fn claim(state: &Arc<State>, node: NodeId, request: ClaimRequest) -> Result<ClaimReply, Problem> {
    match request.owner.clone() {
        Some(owner) if owner != state.config.instance => {
            pass_on::<ClaimHere, _>(state, &owner, &node, request, PASS_DEADLINE).await
        }
        _ => here(state, node, request).await,
    }
}

pub(super) async fn here(state: &Arc<State>, node: NodeId, request: ClaimRequest) -> Result<ClaimReply, Problem> {
    let holder = holder(&node, request.incarnation);
    let granted = granted(state, &node, &holder, &request).await?;
    let waiting: usize = state
        .lanes
        .iter()
        .map(|lane| lane.gauges.placed.load(Ordering::Relaxed))
        .sum();
    let more = waiting > granted.len() && !state.nodes.fleet.slots_of(&node).is_empty();
    let wired = granted.into_iter().map(|granted| wire(state, &node, &holder, granted));
    let grants = futures::future::join_all(wired).await.into_iter().flatten().collect();
    Ok(ClaimReply {
        owner: state.config.instance.clone(),
        grants,
        lease_ms: state.config.node_lease_ms,
        more,
    })
}

/// From one lane after the other, in an order that is the same for a repeat.
async fn granted(
    state: &State,
    node: &NodeId,
    holder: &Holder,
    request: &ClaimRequest,
) -> Result<Vec<Granted>, Problem> {
    let mut assigned = state.nodes.fleet.slots_of(node);
    let others = state.nodes.fleet.others_on(node);
    if let Some(ready) = &request.ready {
        assigned.retain(|agent, _| ready.contains(agent));
    }
    let mut running: HashMap<_, u32> = HashMap::new();
    for (tenant, agent, count) in &request.running {
        *running.entry((tenant.clone(), agent.clone())).or_default() += count;
    }
    let free = request.free_slots.min(GRANTS_MAX) as usize;
    let first = request.request_id.bytes().map(usize::from).sum::<usize>() % state.lanes.len();
    let mut granted: Vec<Granted> = Vec::new();
    for lane in state.lanes[first..].iter().chain(&state.lanes[..first]) {
        let (answer, answered) = oneshot::channel();
        lane.send(Command::Claim(Claim {
            holder: holder.clone(),
            request_id: request.request_id.clone(),
            free: free.saturating_sub(granted.len()),
            assigned: assigned.clone(),
            running: running.clone(),
            others: others.clone(),
            answer,
        }))?;
        let given = tokio::time::timeout(LANE_DEADLINE, answered).await;
        for given in given.map_err(|_| unknown())?.map_err(|_| silent())? {
            *running
                .entry((given.meta.tenant.clone(), given.meta.agent.clone()))
                .or_default() += 1;
            granted.push(given);
        }
    }
    Ok(granted)
}

/// It was heard, and what becomes of it is not known: asked again, the same request gets the same grants.
fn unknown() -> Problem {
    Problem::new(Code::Timeout, "the owner has not answered yet").next("send it again")
}

/// With all that the worker needs. What cannot be read now is given back, what never can ends.
async fn wire(state: &State, node: &NodeId, holder: &Holder, granted: Granted) -> Option<WireGrant> {
    let meta = &granted.meta;
    let ticket = state.nodes.tickets.make(node, meta, granted.epoch, granted.at).await;
    state.nodes.granted(meta.id, granted.epoch);
    let read = async {
        let ticket = ticket.map_err(Unreadable::Now)?;
        let work = work::of(state, meta).await?;
        state.figures.resumed(granted.epoch, &work.journal);
        Ok((ticket, work))
    };
    match read.await {
        Ok((ticket, work)) => {
            let is_small = serde_json::to_vec(&work).is_ok_and(|bytes| bytes.len() <= WORK_BYTES_MAX);
            Some(WireGrant {
                ticket,
                agent: meta.agent.clone(),
                work: is_small.then(|| Box::new(work)),
            })
        }
        Err(unreadable) => {
            give_back(state, holder, granted, unreadable).await;
            None
        }
    }
}

async fn give_back(state: &State, holder: &Holder, granted: Granted, unreadable: Unreadable) {
    let (answer, answered) = oneshot::channel();
    let append = Append {
        id: granted.meta.id,
        shard: granted.meta.shard,
        epoch: granted.epoch,
        after_seq: granted.seq,
        holder: Some(holder.clone()),
        facts: Vec::new(),
        then: unreadable.into_then(&granted.meta),
        answer,
    };
    let lane = state.lane(granted.meta.shard);
    if lane.send(Command::Append(append)).is_ok() {
        // Unanswered it is missing from the node's `alive`, and runnable again soon.
        let _ = tokio::time::timeout(LANE_DEADLINE, answered).await;
    }
}
