//! The feed of everything: what shards committed, by (batch, ordinal), for readers that heard too little of JOURNAL.

use mesh_types::{AgentName, InvocationId, Tenant};
use serde::{Deserialize, Serialize};

use crate::journal::Record;

endpoints! { "execution";
    /// Committed batches above marks, straight from the tables: what fills a gap of JOURNAL, and what a reader that
    /// comes back lacks. The edge asks for one tenant or, to serve all of its readers, for every tenant.
    ShardFeed = "feed", ShardFeedRequest => ShardFeedPage, Service, 10 s;
}

/// Shards of an installation, fixed when it is made (EXECUTION §1).
pub const SHARDS: u16 = 16;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardFeedRequest {
    /// Of the shards that are wanted; none: only how far they are.
    pub after: Vec<ShardMark>,
    /// `None`: of every tenant.
    #[serde(default)]
    pub tenant: Option<Tenant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardMark {
    pub shard: u16,
    /// The highest batch that is not wanted.
    pub after: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardFeedPage {
    /// Batches are counted in this feed; a database that went back starts another.
    pub feed_id: String,
    /// How far every shard is, by shard.
    pub heads: Vec<ShardHead>,
    /// What was asked for, by shard and batch; as much as one answer holds.
    pub pages: Vec<ShardPage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardHead {
    pub shard: u16,
    /// The last committed batch.
    pub batch: u64,
    /// The oldest batch that is kept; above `batch` when none is.
    pub oldest: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardPage {
    pub shard: u16,
    /// The notes are complete up to this batch.
    pub to: u64,
    /// In order of (batch, ordinal).
    pub notes: Vec<FeedNote>,
}

/// A record that a list shows something of; steps are not among them, and what only the invocation's own reader wants
/// (output, values of signals) is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeedNote {
    pub batch: u64,
    /// Place within the batch, over all of its records, from 0.
    pub ordinal: u32,
    pub tenant: Tenant,
    pub invocation: InvocationId,
    pub agent: AgentName,
    pub version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    pub record: Record,
}
