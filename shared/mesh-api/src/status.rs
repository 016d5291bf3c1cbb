//! What execution processes say of themselves, and of the work that waits for nodes.

use mesh_types::{AgentName, Tenant};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExecutionStatusView {
    pub instance: String,
    pub feed_id: String,
    pub shards: Vec<ShardView>,
    /// Open invocations of this process by state.
    pub open: u64,
    pub waiting_commands: u64,
    /// Whether feed and summary have caught up with the journal here.
    pub relayed: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ShardView {
    pub shard: u16,
    pub owner: String,
    pub epoch: u64,
    pub batch: u64,
    pub relayed_batch: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemandRequest {}

/// Open work of agents with a `placement`, over all owners of shards.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// Sorted by tenant and agent; who has no open work is left out.
    pub agents: Vec<AgentDemand>,
    /// Whether every shard has answered. If not, what is missing may still wait: nobody is scaled down by it.
    pub complete: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentDemand {
    pub tenant: Tenant,
    pub agent: AgentName,
    /// Runnable now, and nobody runs them.
    pub waiting: u64,
    /// Held by nodes.
    pub running: u64,
    /// Since the oldest of those that wait was accepted; 0 if none waits.
    pub oldest_waiting_ms: u64,
}
