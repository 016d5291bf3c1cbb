//! What this process knows of the fleet: which node may run what, and what new invocations go to (KV `ASSIGNMENTS`,
//! written by the reconciler), and which nodes are gone (KV `PRESENCE`, written by `heartbeat`).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use mesh_api::heartbeat::Presence;
use mesh_bus::{Bucket, KvEntry};
use mesh_runtime::{Context, Doorbell};
use mesh_types::fleet::{Assignment, Serving};
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

/// Follows `PRESENCE` until shutdown, and tells the lanes who is gone. A marker that is missed costs time only: then the
/// lease ends. A server that lost the bucket sends no markers, so nobody is taken for dead by it.
pub(crate) async fn follow_presence(context: Context, lanes: Vec<LaneHandle>) {
    let mut known: HashMap<NodeId, u64> = HashMap::new();
    let mut watch = context.bus.kv_watch(Bucket::Presence);
    loop {
        let entry = tokio::select! {
            () = context.shutdown.cancelled() => return,
            entry = watch.next() => entry,
        };
        let Some(entry) = entry else { return };
        let Some(lost) = lost(&mut known, &entry) else {
            continue;
        };
        for lane in &lanes {
            // A lane that ended has nothing to lose.
            let _ = lane.send(Command::NodeLost(lost.clone()));
        }
    }
}

/// The start of a node that is gone by what was just heard: its presence ran out, or a later start took its place.
fn lost(known: &mut HashMap<NodeId, u64>, entry: &KvEntry) -> Option<Holder> {
    let node: NodeId = entry.key.parse().ok()?;
    let (before, is_gone) = match read::<Presence>(entry).ok()? {
        None => (known.remove(&node)?, true),
        Some(now) => {
            let before = known.insert(node.clone(), now.incarnation)?;
            (before, before < now.incarnation)
        }
    };
    is_gone.then(|| Holder {
        node: node.as_str().into(),
        incarnation: before,
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
    fn a_start_of_a_node_is_lost_once_and_no_other_with_it() {
        let mut known = HashMap::new();
        let says = |incarnation: Option<u64>| KvEntry {
            key: "n".into(),
            value: incarnation.map(|incarnation| {
                let presence = Presence {
                    incarnation,
                    draining: false,
                };
                serde_json::to_vec(&presence).unwrap().into()
            }),
            revision: 1,
        };
        let holder = |incarnation| {
            Some(Holder {
                node: "n".into(),
                incarnation,
            })
        };
        assert_eq!(lost(&mut known, &says(None)), None, "nobody knew it");
        assert_eq!(lost(&mut known, &says(Some(5))), None);
        assert_eq!(lost(&mut known, &says(Some(5))), None, "still there");
        assert_eq!(lost(&mut known, &says(Some(6))), holder(5), "a later start");
        assert_eq!(lost(&mut known, &says(None)), holder(6));
        assert_eq!(lost(&mut known, &says(None)), None, "once");
    }
}
