//! `demand`: what waits for nodes and runs on them. Each owner knows its part; who is asked asks the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use mesh_api::endpoint::Access;
use mesh_api::execution::{AgentDemand, Demand, DemandRequest};
use mesh_api::{Caller, Endpoint};
use mesh_types::{Problem, Subject};
use tokio::sync::oneshot;

use crate::directory::Owner;
use crate::lane::command::Command;
use crate::shards::SHARDS;
use crate::state::State;

const LANE_DEADLINE: Duration = Duration::from_secs(2);
const PASS_DEADLINE: Duration = Duration::from_millis(2_500);

/// The part of one process.
#[derive(Debug, Clone, Copy)]
pub(super) struct DemandHere;

impl Endpoint for DemandHere {
    const SERVICE: &'static str = "execution";
    const NAME: &'static str = "demand-here";
    type Request = DemandRequest;
    type Reply = Demand;
    const ACCESS: Access = Access::Service;
}

pub(super) async fn demand(state: &Arc<State>, caller: Caller, request: DemandRequest) -> Result<Demand, Problem> {
    let mut others: BTreeSet<Arc<str>> = BTreeSet::new();
    let mut has_gaps = false;
    for shard in 0..SHARDS {
        match state.directory.owner(shard) {
            Owner::Here => {}
            Owner::There(instance) => {
                others.insert(instance);
            }
            Owner::Nobody => has_gaps = true,
        }
    }
    let asked = others.iter().map(|instance| {
        let (caller, request) = (&caller, &request);
        async move {
            let subject = Subject::Execution {
                instance: instance.parse()?,
                command: DemandHere::NAME.parse()?,
            };
            let bus = &state.context.bus;
            bus.call_at::<DemandHere>(&subject, caller, request, PASS_DEADLINE)
                .await
        }
    });
    let (own, theirs) = tokio::join!(here(state, caller.clone(), request.clone()), join_all(asked));
    let mut all: BTreeMap<_, AgentDemand> = BTreeMap::new();
    for part in theirs.into_iter().chain([own]) {
        let Ok(part) = part else {
            has_gaps = true;
            state.directory.ring();
            continue;
        };
        has_gaps |= !part.complete;
        for agent in part.agents {
            add(&mut all, agent);
        }
    }
    Ok(Demand {
        agents: all.into_values().collect(),
        complete: !has_gaps,
    })
}

pub(super) async fn here(state: &Arc<State>, _: Caller, _: DemandRequest) -> Result<Demand, Problem> {
    let asked = state.lanes.iter().map(async |lane| {
        let (answer, answered) = oneshot::channel();
        lane.send(Command::Demand(answer)).ok()?;
        tokio::time::timeout(LANE_DEADLINE, answered).await.ok()?.ok()
    });
    let (mut all, mut complete) = (BTreeMap::new(), true);
    for part in join_all(asked).await {
        complete &= part.is_some();
        for agent in part.into_iter().flatten() {
            add(&mut all, agent);
        }
    }
    Ok(Demand {
        agents: all.into_values().collect(),
        complete,
    })
}

fn add(all: &mut BTreeMap<(mesh_types::Tenant, mesh_types::AgentName), AgentDemand>, part: AgentDemand) {
    let place = (part.tenant.clone(), part.agent.clone());
    match all.get_mut(&place) {
        None => {
            all.insert(place, part);
        }
        Some(sum) => {
            sum.waiting += part.waiting;
            sum.running += part.running;
            sum.oldest_waiting_ms = sum.oldest_waiting_ms.max(part.oldest_waiting_ms);
        }
    }
}
