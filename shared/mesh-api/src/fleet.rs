//! Nodes at `registry`: who they are, whom they serve. Desired state; what is seen of them is `heartbeat`'s.

use mesh_types::fleet::{HealthSnapshot, Labels, NodeMode, Sharing};
use mesh_types::{AgentName, NodeId, Tenant, Timestamp, fleet_policy};
use serde::{Deserialize, Serialize};

use crate::page::{Page, PageQuery};

endpoints! { "registry";
    /// Makes the node known, or renews what is known of it. Of another owner: `forbidden`.
    NodeRegister = "node-register", NodeRegisterRequest => NodeEntry, Service, 5 s;
    NodeConfigure = "node-configure", NodeConfigureRequest => NodeEntry, Operator, 5 s;
    /// A node reported a mode that differs from the registered one: it replaces it.
    NodeReportedMode = "node-reported-mode", NodeReportedModeRequest => NodeEntry, Service, 5 s;
    /// What `viewer` may see.
    NodeGet = "node-get", NodeGetRequest => NodeEntry, Viewer, 5 s;
    NodeList = "node-list", NodeListRequest => Page<NodeEntry>, Viewer, 5 s;
    /// Every node of every tenant, for `reconciler` and `heartbeat`, by pages.
    NodeAll = "node-all", PageQuery => Page<NodeEntry>, Service, 10 s;
    NodeDrain = "node-drain", NodeDrainRequest => NodeEntry, Operator, 5 s;
    NodeForget = "node-forget", NodeGetRequest => NodeEntry, Operator, 5 s;
    /// Every published agent with a `placement`, of every tenant, for `reconciler`, by pages.
    PlacedAll = "placed-all", PageQuery => Page<PlacedAgent>, Service, 10 s;
}

/// Who asks for nodes. `None`: nobody is signed in (development mode), who owns all nodes of the tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Viewer {
    pub owner: Option<String>,
}

impl Viewer {
    /// From the actor that the edge set: `user:ann` is owner `ann`; `dev` and services are nobody in particular. Any
    /// other actor, such as `node:…`, owns nothing: no owner has a colon in his name.
    pub fn of(caller: &crate::Caller) -> Self {
        let actor = caller.actor.as_str();
        let owner = match actor.strip_prefix("user:") {
            Some(owner) => Some(owner),
            None if actor == fleet_policy::DEVELOPER || actor.starts_with("service:") => None,
            None => Some(actor),
        };
        Self {
            owner: owner.map(str::to_owned),
        }
    }

    /// As the policy takes it; `tenant` is the caller's.
    pub fn in_tenant<'a>(&'a self, tenant: &'a Tenant) -> fleet_policy::Viewer<'a> {
        fleet_policy::Viewer {
            tenant,
            owner: self.owner.as_deref(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeRegisterRequest {
    /// `None`: a `nod_` ULID is minted.
    #[serde(default)]
    pub node_id: Option<NodeId>,
    /// Who owns it; the caller's tenant is its tenant.
    pub owner: String,
    /// For people, default the host's name.
    #[serde(default)]
    pub name: Option<String>,
    /// Only what is given changes what is known.
    #[serde(default)]
    pub mode: Option<NodeMode>,
    #[serde(default)]
    pub labels: Option<Labels>,
    /// What it can do, such as `llm`, `script`, `cli:codex`.
    #[serde(default)]
    pub capabilities: Option<Vec<String>>,
    #[serde(default)]
    pub slots: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct NodeConfiguration {
    pub mode: NodeMode,
    /// The node's id, as its configuration names it.
    pub node_uid: Option<NodeId>,
    pub billable_account_uid: Option<String>,
    pub billable_account_type: Option<String>,
    pub billable_account_handle: Option<String>,
    pub sharing: Sharing,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeConfigureRequest {
    pub viewer: Viewer,
    pub node_id: NodeId,
    pub configuration: NodeConfiguration,
    /// Empty: as it was.
    #[serde(default)]
    pub labels: Option<Labels>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeReportedModeRequest {
    pub node_id: NodeId,
    pub mode: NodeMode,
    /// Of the report: an older one than the last that was taken changes nothing.
    pub incarnation: u64,
    pub seq: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeGetRequest {
    pub viewer: Viewer,
    pub node_id: NodeId,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeListRequest {
    pub viewer: Viewer,
    #[serde(default)]
    pub page: PageQuery,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeDrainRequest {
    pub viewer: Viewer,
    pub node_id: NodeId,
    /// `false` takes the drain back.
    pub drained: bool,
}

/// A node as the registry knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NodeEntry {
    pub node_id: NodeId,
    pub tenant: Tenant,
    pub owner: String,
    pub name: String,
    #[serde(flatten)]
    pub configuration: NodeConfiguration,
    pub labels: Labels,
    pub capabilities: Vec<String>,
    pub slots: u32,
    pub drained: bool,
    pub registered_at: Timestamp,
    pub updated_at: Timestamp,
}

impl NodeEntry {
    /// As the policy takes it.
    pub fn facts(&self) -> fleet_policy::NodeFacts<'_> {
        fleet_policy::NodeFacts {
            tenant: &self.tenant,
            owner: &self.owner,
            mode: self.configuration.mode,
            sharing: &self.configuration.sharing,
        }
    }
}

/// The API's record of a node: what is registered, and what is seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NodeRecord {
    #[serde(flatten)]
    pub entry: NodeEntry,
    pub status: NodeStatus,
    pub last_seen_at: Option<Timestamp>,
    pub last_health_at: Option<Timestamp>,
    pub health: Option<HealthSnapshot>,
    /// What it runs, as it said last.
    pub running: u32,
    pub replicas: Vec<mesh_types::fleet::ReplicaReport>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeStatus {
    /// Registered, never seen.
    Registered,
    Online,
    /// Heartbeats, but does not take on its assignment.
    Deaf,
    Offline,
}

/// A published agent that runs on nodes only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlacedAgent {
    pub tenant: Tenant,
    pub agent: AgentName,
    /// Who published it, to decide which private nodes may run it; `None` in development mode.
    #[serde(default)]
    pub owner: Option<String>,
    pub version: u32,
    pub hash: String,
    pub published_at: Timestamp,
    pub placement: mesh_types::agent::Placement,
    /// `limits.concurrency`.
    pub concurrency: u32,
    /// What its nodes must be capable of, such as `llm` or `cli:codex`.
    pub requires: Vec<String>,
}

impl PlacedAgent {
    /// As the policy takes it.
    pub fn facts(&self) -> fleet_policy::AgentFacts<'_> {
        fleet_policy::AgentFacts {
            tenant: &self.tenant,
            name: &self.agent,
            owner: self.owner.as_deref(),
        }
    }
}
