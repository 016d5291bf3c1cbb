//! What the reconciler remembers from pass to pass, in its tables: replicas, and its patience with nodes and agents.

use std::collections::{BTreeMap, BTreeSet};

use mesh_api::fleet::PlacedAgent;
use mesh_types::fleet::{AssignedReplica, Assignment, ReplicaState, Serving};
use mesh_types::{AgentName, NodeId, ReplicaId, Tenant, Timestamp};
use serde::{Deserialize, Serialize};

pub(crate) type AgentKey = (Tenant, AgentName);

/// One agent version on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replica {
    pub(crate) id: ReplicaId,
    pub(crate) tenant: Tenant,
    pub(crate) agent: AgentName,
    pub(crate) version: u32,
    pub(crate) hash: String,
    pub(crate) concurrency: u32,
    pub(crate) node: NodeId,
    /// It takes nothing new and goes when it is empty.
    pub(crate) stopping: bool,
    /// As its node said last.
    pub(crate) state: ReplicaState,
    pub(crate) detail: String,
    /// Since when it is in that state.
    pub(crate) since: Timestamp,
    pub(crate) placed_at: Timestamp,
    /// Its agent is of another owner than its node.
    #[serde(default)]
    pub(crate) foreign: bool,
}

impl Replica {
    pub(crate) fn assigned(&self) -> AssignedReplica {
        AssignedReplica {
            replica: self.id,
            tenant: self.tenant.clone(),
            agent: self.agent.clone(),
            version: self.version,
            hash: self.hash.clone(),
            concurrency: self.concurrency,
            stopping: self.stopping,
            foreign: self.foreign,
        }
    }
}

/// Of one node: its assignment's generation, and how steady it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct KeptNode {
    /// 0: it never had anything to run. Else at least the time of the change in milliseconds, so that it grows even
    /// over a database that went back.
    pub(crate) generation: u64,
    /// Of the reconciler that wrote it.
    pub(crate) epoch: u64,
    pub(crate) changed_at: Option<Timestamp>,
    pub(crate) drained: bool,
    /// Invocations of others that its owner lets it run.
    pub(crate) others_max: Option<u32>,
    /// Since when it has not taken on its newest assignment, as far as it was seen.
    pub(crate) unheard_since: Option<Timestamp>,
    /// As `heartbeat` says; `None` while it is not there.
    pub(crate) alive_since: Option<Timestamp>,
    /// Since when it is there and hears.
    pub(crate) steady_since: Option<Timestamp>,
    /// Times in a row, within the window, that it was lost or deaf.
    pub(crate) losses: u32,
    pub(crate) lost_at: Option<Timestamp>,
    pub(crate) deaf_since: Option<Timestamp>,
}

impl KeptNode {
    /// A new generation, as what it is to run has changed.
    pub(super) fn touch(&mut self, now: Timestamp, epoch: u64, drained: bool) {
        self.unheard_since.get_or_insert(now);
        self.generation = (self.generation + 1).max(now.as_millis());
        self.epoch = epoch;
        self.changed_at = Some(now);
        self.drained = drained;
    }
}

/// Of one agent: what new invocations go to, and what was tried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct KeptAgent {
    pub(crate) serving: Option<Version>,
    /// Of the reconciler that decided it.
    pub(crate) epoch: u64,
    /// What served before, until all of the new version is ready.
    pub(crate) previous: Option<Version>,
    pub(crate) failed: Option<FailedVersion>,
    /// How many autoscaling wants.
    pub(crate) scale: Option<u32>,
    /// Since when fewer would do, and the most that were needed since then.
    pub(crate) low: Option<(Timestamp, u32)>,
    /// Replicas in a row that failed and were replaced.
    pub(crate) retries: u32,
    /// The next is not replaced before.
    pub(crate) retry_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) version: u32,
    pub(crate) hash: String,
}

impl Version {
    pub(crate) fn published(agent: &PlacedAgent) -> Self {
        Self {
            version: agent.version,
            hash: agent.hash.clone(),
        }
    }
}

/// A version that failed its health, as it was published then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedVersion {
    pub(crate) version: u32,
    pub(crate) published_at: Timestamp,
    pub(crate) tries: u32,
    pub(crate) next_try_at: Timestamp,
    pub(crate) why: String,
}

/// The tables as one value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) replicas: BTreeMap<ReplicaId, Replica>,
    pub(crate) nodes: BTreeMap<NodeId, KeptNode>,
    pub(crate) agents: BTreeMap<AgentKey, KeptAgent>,
}

/// What a plan changes of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) replicas: BTreeMap<ReplicaId, Replica>,
    pub(crate) removed: BTreeSet<ReplicaId>,
    pub(crate) nodes: Vec<(NodeId, KeptNode)>,
    pub(crate) forgotten: Vec<NodeId>,
    pub(crate) agents: Vec<(AgentKey, KeptAgent)>,
    pub(crate) dropped: Vec<AgentKey>,
    /// Nodes whose assignment becomes another one; empty in a finished plan, their generation tells.
    pub(super) touched: BTreeSet<NodeId>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The replica's row as it will be.
    pub(super) fn replica<'a>(&'a mut self, before: &Replica) -> &'a mut Replica {
        self.replicas.entry(before.id).or_insert_with(|| before.clone())
    }

    pub(super) fn place(&mut self, replica: Replica) {
        self.touched.insert(replica.node.clone());
        self.replicas.insert(replica.id, replica);
    }

    pub(super) fn stop(&mut self, replica: &Replica) {
        self.touched.insert(replica.node.clone());
        self.replica(replica).stopping = true;
    }

    pub(super) fn remove(&mut self, replica: &Replica) {
        self.touched.insert(replica.node.clone());
        self.replicas.remove(&replica.id);
        self.removed.insert(replica.id);
    }
}

impl Kept {
    pub(crate) fn apply(&mut self, changes: &Changes) {
        self.replicas
            .extend(changes.replicas.iter().map(|(id, one)| (*id, one.clone())));
        for id in &changes.removed {
            self.replicas.remove(id);
        }
        self.nodes.extend(changes.nodes.iter().cloned());
        for node in &changes.forgotten {
            self.nodes.remove(node);
        }
        self.agents.extend(changes.agents.iter().cloned());
        for agent in &changes.dropped {
            self.agents.remove(agent);
        }
    }

    /// What these nodes are to run, for all that ever had anything to.
    pub(crate) fn assignments(&self) -> BTreeMap<&NodeId, Assignment> {
        let known = self.nodes.iter().filter(|(_, kept)| kept.generation > 0);
        let mut all: BTreeMap<&NodeId, Assignment> = known
            .map(|(node, kept)| {
                let assignment = Assignment {
                    generation: kept.generation,
                    epoch: kept.epoch,
                    replicas: Vec::new(),
                    drained: kept.drained,
                    others_max: kept.others_max,
                };
                (node, assignment)
            })
            .collect();
        for replica in self.replicas.values() {
            if let Some(assignment) = all.get_mut(&replica.node) {
                assignment.replicas.push(replica.assigned());
            }
        }
        all
    }

    /// What new invocations of each agent go to, where that is known.
    pub(crate) fn servings(&self) -> impl Iterator<Item = (&AgentKey, Serving)> {
        self.agents.iter().filter_map(|(key, kept)| {
            let serving = kept.serving.as_ref()?;
            let value = Serving {
                version: serving.version,
                hash: serving.hash.clone(),
                epoch: kept.epoch,
            };
            Some((key, value))
        })
    }
}
