//! What one execution process says of itself.

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
