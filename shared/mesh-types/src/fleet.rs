//! Nodes as the mesh speaks of them: modes, sharing, placement of replicas. No I/O.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::ReplicaId;
use crate::name::{AgentName, NodeId, Tenant};
use crate::time::Timestamp;

/// Whom a node works for.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum NodeMode {
    /// Its owner only.
    #[default]
    Private,
    /// Others too, as its sharing policy says.
    Shared,
    /// Nobody: it is registered and seen, and takes no work.
    Sleep,
}

/// Whom a shared node works for besides its owner. An empty list of tenants means the owner's own tenant; an empty list
/// of users or agents means all of those tenants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sharing {
    pub tenants: Vec<Tenant>,
    /// Owners by the name that their credential carries, such as `ann`.
    pub users: Vec<String>,
    pub agents: Vec<AgentName>,
    /// Invocations of others at the same time; absent: as many as it has slots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invocations_max: Option<u32>,
}

/// What kind of thing made a node report its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthReason {
    Startup,
    Periodic,
    ModeChange,
}

/// A node's view of its machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HealthSnapshot {
    pub mode: NodeMode,
    pub hostname: String,
    /// Operating system, such as `Linux`.
    pub platform: String,
    pub platform_release: String,
    /// `None` where the machine has no Python.
    #[serde(default)]
    pub python_version: Option<String>,
    /// Version of the node's own program.
    pub agent_runtimes_version: String,
    pub cpu_count: u32,
    /// Of all cores together, 0 to 100.
    pub cpu_percent: f64,
    pub memory_total_mb: u64,
    pub memory_available_mb: u64,
    /// Over 1, 5 and 15 minutes.
    pub load_average: [f64; 3],
    pub uptime_seconds: u64,
    pub reported_at: Timestamp,
    pub reason: HealthReason,
}

/// What a node says every 20 s on `mesh.heartbeat.<node>` and at once when any of it changed. A newer one is of a higher
/// incarnation, or of the same and a higher `seq`; anything older changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Heartbeat {
    pub node_id: NodeId,
    /// Grows with each start of the node.
    pub incarnation: u64,
    /// Grows with each heartbeat of one incarnation, from 1.
    pub seq: u64,
    /// The node's clock; for people, never compared.
    pub sent_at: Timestamp,
    /// Seconds until the next one is due.
    pub interval_seconds: f64,
    pub mode: NodeMode,
    /// Invocations that it may run at the same time.
    pub slots: u32,
    /// Of those in use.
    pub running: u32,
    /// Tokens that its models made per second, over the last interval.
    #[serde(default)]
    pub tokens_per_second: f64,
    /// The generation of the assignment that it has taken on.
    #[serde(default)]
    pub assignment: u64,
    #[serde(default)]
    pub replicas: Vec<ReplicaReport>,
    /// Takes nothing new: it is about to stop.
    #[serde(default)]
    pub draining: bool,
}

/// One replica as its node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplicaReport {
    pub replica: ReplicaId,
    pub tenant: Tenant,
    pub agent: AgentName,
    pub version: u32,
    pub state: ReplicaState,
    /// Why it is in that state, for people; empty where it goes without saying.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Invocations that it runs now.
    #[serde(default)]
    pub running: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaState {
    /// Assigned; its artifact is on the way.
    Starting,
    /// Takes invocations.
    Ready,
    /// Runs what it holds to the end and takes nothing new.
    Stopping,
    /// Can't run here; the detail says why.
    Failed,
}

/// One replica that a node is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AssignedReplica {
    pub replica: ReplicaId,
    pub tenant: Tenant,
    pub agent: AgentName,
    pub version: u32,
    /// SHA-256 of the version's artifact, 64 hexadecimal digits.
    pub hash: String,
    /// Invocations that it runs at the same time, at most (`limits.concurrency`).
    pub concurrency: u32,
    /// It takes nothing new and goes when it is empty.
    #[serde(default)]
    pub stopping: bool,
    /// The agent is of another owner than the node.
    #[serde(default)]
    pub foreign: bool,
}

/// All that one node is to run: KV `ASSIGNMENTS` under `node.<node>`, and the answer to a node that asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Assignment {
    /// Grows with each change; an older one is ignored.
    pub generation: u64,
    /// Of the reconciler that wrote it.
    pub epoch: u64,
    pub replicas: Vec<AssignedReplica>,
    /// The node takes nothing new at all (`mesh node drain`).
    #[serde(default)]
    pub drained: bool,
    /// Invocations of foreign replicas that it may run at the same time (`sharing.invocations_max`).
    #[serde(default)]
    pub others_max: Option<u32>,
}

/// What new invocations of an agent with a `placement` are pinned to: KV `ASSIGNMENTS` under `agent.<tenant>.<agent>`.
/// Absent until its first replica is healthy; until then the published version counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Serving {
    pub version: u32,
    pub hash: String,
    pub epoch: u64,
}

/// Labels by which `placement.node_selector` picks nodes; `region` is one of them.
pub type Labels = BTreeMap<String, String>;
