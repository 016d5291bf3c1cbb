//! Endpoints of `reconciler`: what it saw, planned and did, and what each node is to run.

use mesh_types::fleet::{Assignment, ReplicaState};
use mesh_types::{AgentName, NodeId, PassId, ReplicaId, Tenant, Timestamp};
use serde::{Deserialize, Serialize};

use crate::page::{Page, PageQuery};

endpoints! { "reconciler";
    /// A pass that is not applied.
    PlanDry = "plan", PlanRequest => Pass, Viewer, 10 s;
    PassList = "pass-list", PageQuery => Page<Pass>, Viewer, 5 s;
    BrainState = "brain-state", BrainRequest => Brain, Viewer, 10 s;
    /// What a node is to run; asked at `mesh.node.<node>.reconciler.assignment` by the node in the subject.
    NodeAssignment = "assignment", AssignmentRequest => Assignment, Service, 5 s;
}

/// What is assumed beside what is; nothing: the next pass as it is due.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// As if this node were drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<NodeId>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BrainRequest {}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AssignmentRequest {
    pub incarnation: u64,
}

/// One turn of observe, plan, apply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Pass {
    /// `None`: it was only shown.
    pub id: Option<PassId>,
    pub at: Timestamp,
    /// What made it run: `tick`, `bell`, `start`, `asked`.
    pub because: String,
    pub seen: Seen,
    pub actions: Vec<Action>,
    /// Actions beyond those listed.
    #[serde(default)]
    pub more: u32,
    pub took_ms: f64,
    /// What could not be observed or written; then nothing was applied.
    pub error: Option<String>,
    pub next_try_at: Option<Timestamp>,
}

/// Totals of what a pass saw.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Seen {
    pub nodes: u32,
    pub nodes_alive: u32,
    pub agents: u32,
    pub replicas_wanted: u32,
    pub replicas_assigned: u32,
    pub replicas_ready: u32,
    /// Invocations that wait for a node.
    pub waiting: u64,
}

/// One difference and what is done about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Action {
    pub kind: ActionKind,
    pub tenant: Option<Tenant>,
    pub agent: Option<AgentName>,
    pub version: Option<u32>,
    pub replica: Option<ReplicaId>,
    /// Where it was, and where it goes; a node that the caller does not see is left out.
    pub from: Option<NodeId>,
    pub to: Option<NodeId>,
    /// Why, for people.
    pub because: String,
    /// All of it as one sentence.
    pub sentence: String,
    pub result: ActionResult,
    /// Of what could not be done.
    pub next_try_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    Place,
    /// Takes nothing new and goes when it is empty.
    Stop,
    /// Its node is gone, or it is empty: it is struck off.
    Remove,
    /// New invocations go to this version.
    Serve,
    /// Wanted, and no node fits.
    Hold,
    /// A new version failed its health; the old one stays.
    RollBack,
    Scale,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionResult {
    Planned,
    Applied,
    Failed,
    /// Waits for its backoff or for somebody else.
    Held,
}

/// The state of the whole mesh.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Brain {
    pub at: Timestamp,
    /// The process that leads, and its epoch.
    pub leader: Option<String>,
    pub epoch: u64,
    pub services: Vec<ServiceState>,
    pub nodes: Vec<NodeState>,
    pub agents: Vec<AgentState>,
    pub replicas: Vec<ReplicaView>,
    /// What differs now, as sentences; empty: all is as it should be.
    pub drift: Vec<String>,
    pub passes: Vec<Pass>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServiceState {
    pub name: String,
    /// Processes that answer.
    pub instances: u32,
    pub degraded: bool,
    /// Since when it is as it is.
    pub since: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NodeState {
    pub node_id: NodeId,
    pub name: String,
    pub tenant: Tenant,
    pub owner: String,
    pub mode: mesh_types::fleet::NodeMode,
    pub status: crate::fleet::NodeStatus,
    pub drained: bool,
    pub slots: u32,
    pub replicas: u32,
    pub last_seen_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentState {
    pub tenant: Tenant,
    pub agent: AgentName,
    /// Published, and what new invocations go to.
    pub version: u32,
    pub serving: Option<u32>,
    pub wanted: u32,
    pub assigned: u32,
    pub ready: u32,
    pub waiting: u64,
    pub running: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplicaView {
    pub replica: ReplicaId,
    pub tenant: Tenant,
    pub agent: AgentName,
    pub version: u32,
    /// `None`: on a node that the caller does not see.
    pub node: Option<NodeId>,
    pub state: ReplicaState,
    pub detail: String,
    pub since: Timestamp,
}
