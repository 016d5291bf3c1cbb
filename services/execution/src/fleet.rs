//! What this process knows of the fleet: which node may run what, and what new invocations go to (KV `ASSIGNMENTS`,
//! written by the reconciler), and which nodes are gone (events of `heartbeat`).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use mesh_bus::{Bucket, KvEntry};
use mesh_runtime::{Context, Doorbell};
use mesh_types::event::{Event, Fact};
use mesh_types::fleet::{Assignment, Serving};
use mesh_types::subject::Filter;
use mesh_types::{AgentName, NodeId, Tenant};
use serde::de::DeserializeOwned;

use crate::agents::Agents;
use crate::core::Holder;
use crate::lane::command::{Command, LaneHandle};

/// A watch is a bell that may be missed.
const RELIST_EVERY: Duration = Duration::from_secs(60);
const WATCH_RETRY: Duration = Duration::from_secs(2);

type Agent = (Tenant, AgentName);

/// Assignments as they were heard last. A node that is not named here is given nothing.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    placed: RwLock<Placed>,
    /// Rung at each change.
    pub(crate) changed: Doorbell,
}

#[derive(Debug, Default)]
struct Placed {
    nodes: HashMap<NodeId, Assignment>,
    /// The other way round: who may claim work of an agent now.
    agents: HashMap<Agent, BTreeSet<NodeId>>,
}

impl Fleet {
    /// Slots of the replicas that the node is assigned and that do not stop, by agent. A drained node has none.
    pub(crate) fn slots_of(&self, node: &NodeId) -> HashMap<Agent, u32> {
        let placed = self.placed.read().unwrap_or_else(PoisonError::into_inner);
        placed.nodes.get(node).map(slots).unwrap_or_default()
    }

    /// Agents of others than its owner that it is assigned, and how many invocations of theirs it may run at the same
    /// time; `None`: as many as it has slots.
    pub(crate) fn others_on(&self, node: &NodeId) -> Option<(HashSet<Agent>, u32)> {
        let placed = self.placed.read().unwrap_or_else(PoisonError::into_inner);
        let assignment = placed.nodes.get(node)?;
        let of_others = assignment.replicas.iter().filter(|replica| replica.foreign);
        let agents = of_others.map(|replica| (replica.tenant.clone(), replica.agent.clone()));
        Some((agents.collect(), assignment.others_max?))
    }

    /// Nodes that may claim work of one of these agents.
    pub(crate) fn nodes_for(&self, agents: &BTreeSet<Agent>) -> BTreeSet<NodeId> {
        let placed = self.placed.read().unwrap_or_else(PoisonError::into_inner);
        let nodes = agents.iter().filter_map(|agent| placed.agents.get(agent));
        nodes.flatten().cloned().collect()
    }

    fn assign(&self, node: NodeId, assignment: Option<Assignment>) {
        let mut placed = self.placed.write().unwrap_or_else(PoisonError::into_inner);
        let before = placed.nodes.get(&node).map(slots).unwrap_or_default();
        let after = assignment.as_ref().map(slots).unwrap_or_default();
        for agent in before.keys().filter(|agent| !after.contains_key(*agent)) {
            if let Some(nodes) = placed.agents.get_mut(agent) {
                nodes.remove(&node);
                if nodes.is_empty() {
                    placed.agents.remove(agent);
                }
            }
        }
        for agent in after.into_keys() {
            placed.agents.entry(agent).or_default().insert(node.clone());
        }
        match assignment {
            Some(assignment) => placed.nodes.insert(node, assignment),
            None => placed.nodes.remove(&node),
        };
        drop(placed);
        self.changed.ring();
    }

    /// Follows `ASSIGNMENTS` until shutdown; all is read again every minute. What vanishes without a marker, as when the
    /// server loses the bucket, stays as it was: whoever wrote it writes it again.
    pub(crate) async fn follow(self: Arc<Self>, context: Context, agents: Arc<Agents>) {
        while !context.shutdown.is_cancelled() {
            let mut watch = context.bus.kv_watch(Bucket::Assignments);
            let until = tokio::time::sleep(RELIST_EVERY);
            tokio::pin!(until);
            loop {
                tokio::select! {
                    () = context.shutdown.cancelled() => return,
                    () = &mut until => break,
                    entry = watch.next() => match entry {
                        Some(entry) => self.learn(&entry, &agents),
                        None => {
                            tokio::time::sleep(WATCH_RETRY).await;
                            break;
                        }
                    },
                }
            }
        }
    }

    fn learn(&self, entry: &KvEntry, agents: &Agents) {
        let parts: Vec<&str> = entry.key.split('.').collect();
        match parts.as_slice() {
            ["node", node] => {
                if let (Ok(node), Ok(assignment)) = (node.parse(), read::<Assignment>(entry)) {
                    self.assign(node, assignment);
                }
            }
            ["agent", tenant, agent] => {
                if let (Ok(tenant), Ok(agent), Ok(serving)) = (tenant.parse(), agent.parse(), read::<Serving>(entry)) {
                    agents.serve(tenant, agent, serving);
                }
            }
            _ => tracing::warn!(key = entry.key, "an assignment of nobody"),
        }
    }
}

fn slots(assignment: &Assignment) -> HashMap<Agent, u32> {
    let mut slots: HashMap<Agent, u32> = HashMap::new();
    if assignment.drained {
        return slots;
    }
    for replica in assignment.replicas.iter().filter(|replica| !replica.stopping) {
        *slots
            .entry((replica.tenant.clone(), replica.agent.clone()))
            .or_default() += replica.concurrency;
    }
    slots
}

/// `Err`: it cannot be read; what was known before stays.
fn read<T: DeserializeOwned>(entry: &KvEntry) -> Result<Option<T>, ()> {
    let Some(value) = &entry.value else {
        return Ok(None);
    };
    serde_json::from_slice(value).map(Some).map_err(|error| {
        tracing::error!(%error, key = entry.key, "what the fleet says cannot be read");
    })
}

/// Hears of nodes that are lost until shutdown, and tells the lanes. `heartbeat` decides who is, by its table and with
/// patience after its own absence: a marker alone would take the whole fleet for dead when `heartbeat` was away. An event
/// that is missed costs time only: then the lease ends.
pub(crate) async fn follow_losses(context: Context, lanes: Vec<LaneHandle>) {
    let nodes = Filter::EventsAbout("node".parse().expect("a literal of this file is a token"));
    while !context.shutdown.is_cancelled() {
        let mut events = match context.bus.subscribe(&nodes).await {
            Ok(events) => events,
            Err(error) => {
                tracing::warn!(%error, "losses of nodes are not heard yet");
                tokio::time::sleep(WATCH_RETRY).await;
                continue;
            }
        };
        loop {
            let event = tokio::select! {
                () = context.shutdown.cancelled() => return,
                event = events.next() => event,
            };
            let Some(event) = event else { break };
            let Some(lost) = serde_json::from_slice::<Event>(&event.payload)
                .ok()
                .and_then(|event| lost(&event))
            else {
                continue;
            };
            for lane in &lanes {
                // A lane that ended has nothing to lose.
                let _ = lane.send(Command::NodeLost(lost.clone()));
            }
        }
    }
}

/// The start of a node that is gone: it is lost, or a later start took its place.
fn lost(event: &Event) -> Option<Holder> {
    let (node, incarnation) = match &event.fact {
        Fact::NodeLost { node, incarnation } => (node, *incarnation),
        Fact::NodeCame { node, incarnation } => (node, incarnation.checked_sub(1)?),
        _ => return None,
    };
    Some(Holder {
        node: node.as_str().into(),
        incarnation,
    })
}

#[cfg(test)]
mod tests {
    use mesh_types::fleet::AssignedReplica;
    use mesh_types::{Id, ReplicaId};

    use super::*;

    fn node(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    fn agent(name: &str) -> Agent {
        (Tenant::default(), name.parse().unwrap())
    }

    fn assignment(replicas: &[(&str, bool)], drained: bool) -> Assignment {
        let replica = |(name, stopping): &(&str, bool)| AssignedReplica {
            replica: ReplicaId::from_u128(1),
            tenant: Tenant::default(),
            agent: name.parse().unwrap(),
            version: 1,
            hash: String::new(),
            concurrency: 3,
            stopping: *stopping,
            foreign: false,
        };
        Assignment {
            replicas: replicas.iter().map(replica).collect(),
            drained,
            ..Assignment::default()
        }
    }

    #[test]
    fn a_node_has_slots_for_the_replicas_that_it_is_to_run() {
        let fleet = Fleet::default();
        assert!(fleet.slots_of(&node("n")).is_empty());
        let two = assignment(&[("a", false), ("a", false), ("b", true)], false);
        fleet.assign(node("n"), Some(two));
        assert_eq!(fleet.slots_of(&node("n")), HashMap::from([(agent("a"), 6)]));
        let (a, b) = (BTreeSet::from([agent("a")]), BTreeSet::from([agent("b")]));
        assert_eq!(fleet.nodes_for(&a), BTreeSet::from([node("n")]));
        assert!(fleet.nodes_for(&b).is_empty(), "it stops");
        fleet.assign(node("n"), Some(assignment(&[("b", false)], false)));
        assert!(fleet.nodes_for(&a).is_empty());
        assert_eq!(fleet.nodes_for(&b), BTreeSet::from([node("n")]));
        fleet.assign(node("n"), Some(assignment(&[("b", false)], true)));
        assert!(
            fleet.nodes_for(&b).is_empty() && fleet.slots_of(&node("n")).is_empty(),
            "drained"
        );
        fleet.assign(node("n"), None);
        assert!(fleet.slots_of(&node("n")).is_empty());
    }

    #[test]
    fn a_start_of_a_node_is_lost_with_those_before_it_and_none_after_it() {
        let event = |fact| Event {
            request_id: None,
            change: None,
            id: mesh_types::EventId::from_u128(1),
            tenant: Tenant::default(),
            at: mesh_types::Timestamp::EPOCH,
            actor: "service:heartbeat".into(),
            fact,
        };
        let holder = |incarnation| {
            Some(Holder {
                node: "n".into(),
                incarnation,
            })
        };
        let (gone, came) = (node("n"), node("n"));
        let is_lost = Fact::NodeLost {
            node: gone,
            incarnation: 5,
        };
        let is_back = Fact::NodeCame {
            node: came,
            incarnation: 6,
        };
        assert_eq!(lost(&event(is_lost)), holder(5));
        assert_eq!(lost(&event(is_back)), holder(5), "a later start");
        assert_eq!(
            lost(&event(Fact::TenantCreated {
                name: Tenant::default()
            })),
            None
        );
    }
}
