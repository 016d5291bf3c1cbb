//! The state of the whole mesh as one caller may see it: his tenant's agents and replicas, the nodes that he may see.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use mesh_api::Caller;
use mesh_api::fleet::NodeStatus;
use mesh_api::reconciler::{Action, AgentState, Brain, NodeState, Pass, ReplicaView, ServiceState};
use mesh_types::fleet::ReplicaState;
use mesh_types::{Code, NodeId, Problem, Tenant, Timestamp};

use crate::core::{Kept, NodeSeen, Observation, Plan, World};
use crate::observe;
use crate::sight::Sight;
use crate::state::{State, failed};
use crate::store;
use crate::store::services::ServiceRow;

/// Of each list; a page that people read.
const LISTED_MAX: usize = 1_000;
/// How long a list of passes waits for the registry to say whose nodes are in it.
const SIGHT_WAIT: Duration = Duration::from_secs(2);

/// Everything that was seen at one moment, and what would be done about it.
pub(crate) struct View {
    at: Timestamp,
    seen: Observation,
    kept: Kept,
    plan: Plan,
}

/// Observes and plans, and applies nothing; `drained` is planned for as if it were drained.
pub(crate) async fn look(state: &State, drained: Option<&NodeId>) -> Result<View, Problem> {
    let doing = "reading the assignments";
    let kept = store::kept::load(&state.pool, None).await.map_err(failed(doing))?;
    let leader = store::leader::get(&state.pool).await.map_err(failed(doing))?;
    let unavailable =
        |detail: String| Problem::new(Code::Unavailable, detail).next("try again; `mesh doctor` says more");
    let mut seen = observe::observe(state).await.map_err(unavailable)?;
    observe::is_plausible(&seen, &kept).map_err(unavailable)?;
    for node in seen
        .nodes
        .iter_mut()
        .filter(|node| Some(&node.entry.node_id) == drained)
    {
        node.entry.drained = true;
    }
    let (at, settings, ids) = (
        state.context.clock.now(),
        state.config.settings(),
        state.context.ids.clone(),
    );
    let planned = state.context.blocking.run(move || {
        let world = World {
            now: at,
            epoch: leader.epoch,
            since: leader.since,
            seen: &seen,
            kept: &kept,
            settings: &settings,
        };
        let plan = crate::core::plan(&world, &mut || ids.next());
        View { at, seen, kept, plan }
    });
    Ok(planned.await?)
}

/// What the caller sees, where nothing else is looked at. Without an answer he sees no node: the passes say why there is
/// none.
pub(crate) async fn sight(state: &State, caller: &Caller, passes: &[Pass]) -> Sight {
    let is_own = |action: &Action| action.tenant.as_ref().is_none_or(|of| *of == caller.tenant);
    if !passes.iter().flat_map(|pass| &pass.actions).any(is_own) {
        return Sight::of(caller, []);
    }
    let nodes = match tokio::time::timeout(SIGHT_WAIT, observe::nodes(state)).await {
        Ok(Ok(nodes)) => nodes,
        Ok(Err(problem)) => {
            tracing::debug!(%problem, "the registry does not say whose nodes are in the passes");
            Vec::new()
        }
        Err(_) => {
            tracing::debug!("the registry does not say in time whose nodes are in the passes");
            Vec::new()
        }
    };
    Sight::of(caller, &nodes)
}

/// Leaves the tenant's own actions in a pass, at most so many, without the nodes that the caller does not see.
pub(crate) fn only_of(tenant: &Tenant, sight: &Sight, pass: &mut Pass, listed_max: usize) {
    let all = pass.actions.len();
    pass.actions.retain(|action| match &action.tenant {
        Some(of) => of == tenant,
        None => !sight.hides_a_node_of(action),
    });
    if pass.actions.is_empty() && all > 0 {
        // What was cut off is of those others, too.
        pass.more = 0;
    }
    let cut = pass.actions.len().saturating_sub(listed_max);
    pass.actions.truncate(listed_max);
    for action in &mut pass.actions {
        sight.cover(action);
    }
    pass.more = pass.more.saturating_add(u32::try_from(cut).unwrap_or(u32::MAX));
}

pub(crate) fn service(row: ServiceRow) -> ServiceState {
    ServiceState {
        name: row.name,
        instances: row.instances,
        degraded: row.degraded,
        since: row.since,
    }
}

/// Counts of one agent's replicas.
#[derive(Default)]
struct Counts {
    assigned: u32,
    ready: u32,
}

impl View {
    /// The plan as a pass that was only shown.
    pub(crate) fn pass(&self) -> Pass {
        Pass {
            id: None,
            at: self.at,
            because: "asked".to_owned(),
            seen: self.plan.seen.clone(),
            actions: self.plan.actions.clone(),
            more: 0,
            took_ms: 0.0,
            error: None,
            next_try_at: self.plan.next_due,
        }
    }

    /// What the caller sees of the nodes of this moment.
    pub(crate) fn sight(&self, caller: &Caller) -> Sight {
        Sight::of(caller, self.seen.nodes.iter().map(|node| &node.entry))
    }

    pub(crate) fn describe(&self, tenant: &Tenant, sight: &Sight, brain: &mut Brain) {
        let is_seen = |node: &&NodeSeen| sight.sees(&node.entry.node_id);
        let mut on_node: HashMap<&NodeId, u32> = HashMap::new();
        for replica in self.kept.replicas.values() {
            *on_node.entry(&replica.node).or_default() += 1;
        }
        let nodes = self.seen.nodes.iter().filter(is_seen).take(LISTED_MAX);
        brain.nodes = nodes
            .map(|node| self.node(node, on_node.get(&node.entry.node_id).copied().unwrap_or_default()))
            .collect();
        let own = self.kept.replicas.values().filter(|replica| replica.tenant == *tenant);
        brain.replicas = own
            .take(LISTED_MAX)
            .map(|replica| {
                let is_shown = !sight.hides(&replica.node);
                ReplicaView {
                    replica: replica.id,
                    tenant: replica.tenant.clone(),
                    agent: replica.agent.clone(),
                    version: replica.version,
                    node: is_shown.then(|| replica.node.clone()),
                    state: if replica.stopping {
                        ReplicaState::Stopping
                    } else {
                        replica.state
                    },
                    // The node's own text.
                    detail: if is_shown {
                        replica.detail.clone()
                    } else {
                        String::new()
                    },
                    since: replica.since,
                }
            })
            .collect();
        brain.agents = self.agents(tenant);
    }

    fn node(&self, node: &NodeSeen, replicas: u32) -> NodeState {
        let entry = &node.entry;
        let observed = node.observed.as_ref();
        let is_deaf = self
            .kept
            .nodes
            .get(&entry.node_id)
            .is_some_and(|kept| kept.deaf_since.is_some());
        let status = match observed {
            None => NodeStatus::Registered,
            Some(observed) if !observed.alive => NodeStatus::Offline,
            Some(_) if is_deaf => NodeStatus::Deaf,
            Some(_) => NodeStatus::Online,
        };
        let beat = observed.and_then(|observed| observed.heartbeat.as_ref());
        NodeState {
            node_id: entry.node_id.clone(),
            name: entry.name.clone(),
            tenant: entry.tenant.clone(),
            owner: entry.owner.clone(),
            mode: entry.configuration.mode,
            status,
            drained: entry.drained,
            slots: beat.map_or(entry.slots, |beat| beat.slots),
            replicas,
            last_seen_at: observed.map(|observed| observed.last_seen_at),
        }
    }

    fn agents(&self, tenant: &Tenant) -> Vec<AgentState> {
        let mut counts: BTreeMap<_, Counts> = BTreeMap::new();
        let alive = self
            .seen
            .nodes
            .iter()
            .filter(|node| node.observed.as_ref().is_some_and(|seen| seen.alive));
        let alive: std::collections::HashSet<&NodeId> = alive.map(|node| &node.entry.node_id).collect();
        for replica in self.kept.replicas.values().filter(|replica| !replica.stopping) {
            let own = counts.entry((&replica.tenant, &replica.agent)).or_default();
            own.assigned += 1;
            let is_ready = replica.state == ReplicaState::Ready && alive.contains(&replica.node);
            own.ready += u32::from(is_ready);
        }
        let demand: HashMap<_, _> = self
            .seen
            .demand
            .agents
            .iter()
            .map(|agent| ((&agent.tenant, &agent.agent), (agent.waiting, agent.running)))
            .collect();
        let own = self
            .seen
            .agents
            .iter()
            .filter(|agent| agent.tenant == *tenant)
            .take(LISTED_MAX);
        own.map(|agent| {
            let name = (&agent.tenant, &agent.agent);
            let kept = self.kept.agents.get(&(agent.tenant.clone(), agent.agent.clone()));
            let (waiting, running) = demand.get(&name).copied().unwrap_or_default();
            let counts = counts.get(&name);
            AgentState {
                tenant: agent.tenant.clone(),
                agent: agent.agent.clone(),
                version: agent.version,
                serving: kept
                    .and_then(|kept| kept.serving.as_ref())
                    .map(|serving| serving.version),
                wanted: kept.and_then(|kept| kept.scale).unwrap_or(agent.placement.replicas),
                assigned: counts.map_or(0, |counts| counts.assigned),
                ready: counts.map_or(0, |counts| counts.ready),
                waiting,
                running,
            }
        })
        .collect()
    }
}
