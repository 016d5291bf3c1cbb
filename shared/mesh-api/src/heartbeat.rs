//! Endpoints of `heartbeat`: what is seen of nodes. Nodes themselves publish on `mesh.heartbeat.<node>` and
//! `mesh.health.<node>` without an answer; over HTTP the gateway asks here.

use mesh_types::fleet::{HealthSnapshot, Heartbeat};
use mesh_types::{NodeId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::page::{Page, PageQuery};

/// A node that is silent for so many of its own intervals is lost.
pub const SILENT_INTERVALS_MAX: u32 = 3;

endpoints! { "heartbeat";
    HeartbeatReport = "report", Heartbeat => Reported, Service, 5 s;
    HealthReport = "health", HealthReportRequest => Reported, Service, 5 s;
    /// What is seen of these nodes; those that were never seen are left out.
    Observed = "observed", ObservedRequest => Vec<ObservedNode>, Service, 5 s;
    /// The last health reports of these nodes; those that never made one are left out.
    HealthHistory = "health-history", ObservedRequest => Vec<NodeHealth>, Service, 5 s;
    /// Of all nodes, by pages, for `reconciler`.
    ObservedAll = "observed-all", PageQuery => Page<ObservedNode>, Service, 10 s;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthReportRequest {
    pub node_id: NodeId,
    #[serde(flatten)]
    pub health: HealthSnapshot,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reported {
    /// `false`: something newer is known, nothing was changed.
    pub taken: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservedRequest {
    pub nodes: Vec<NodeId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservedNode {
    pub node_id: NodeId,
    /// Its presence has not run out.
    pub alive: bool,
    /// Since when it is alive or gone, on the service's clock.
    pub since: Timestamp,
    pub last_seen_at: Timestamp,
    pub last_health_at: Option<Timestamp>,
    pub heartbeat: Option<Heartbeat>,
    pub health: Option<HealthSnapshot>,
}

/// The last health reports of a node, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NodeHealth {
    pub node_id: NodeId,
    pub reports: Vec<HealthSnapshot>,
}

/// The value of KV `PRESENCE` under `<node>`: there while the node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    pub incarnation: u64,
    pub draining: bool,
}
