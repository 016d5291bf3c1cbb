//! What one invocation's owner tells another's: written in the sender's batch, deleted in the receiver's, so that each
//! arrives once in effect.

use mesh_api::journal::About;
use mesh_types::{AgentName, InvocationId, Tenant};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::shards::ShardId;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mail {
    /// The same for the same letter; sorts by the sender's time.
    pub(crate) id: Uuid,
    pub(crate) tenant: Tenant,
    /// Of the recipient.
    pub(crate) shard: ShardId,
    pub(crate) sender: InvocationId,
    pub(crate) recipient: InvocationId,
    pub(crate) body: Letter,
    /// Epoch of its shard when it was read; 0 of one that is being written.
    pub(crate) read_in: i64,
}

/// A letter as its owner is told of it. Only who owns the shard in that very epoch knows what to do with it: another
/// one might take a recipient that it has not heard of for one that has ended, and the letter would be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadLetter {
    pub(crate) id: Uuid,
    pub(crate) epoch: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "letter", rename_all = "snake_case")]
pub(crate) enum Letter {
    /// Accept this child.
    Child(Box<ChildRequest>),
    /// The recipient's child has ended.
    Result(Box<About>),
    /// The recipient's parent has ended.
    Cancel { reason: String },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ChildRequest {
    pub(crate) agent: AgentName,
    pub(crate) payload: Value,
    #[serde(default)]
    pub(crate) session: Option<String>,
    pub(crate) priority: u8,
    pub(crate) actor: String,
    pub(crate) step: u32,
    pub(crate) parent_shard: ShardId,
    pub(crate) depth: u16,
    #[serde(default)]
    pub(crate) held_sessions: Vec<(AgentName, String)>,
    /// The call in its parent's trace, where that is recorded: the child's trace is, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<String>,
}

impl Letter {
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Child(_) => "child",
            Self::Result(_) => "result",
            Self::Cancel { .. } => "cancel",
        }
    }
}

impl Mail {
    /// `order` sorts the letters of one sender: 48 bits of it, then a hash of who writes what to whom.
    pub(crate) fn new(
        tenant: &Tenant,
        sender: InvocationId,
        recipient: InvocationId,
        shard: ShardId,
        order: u64,
        body: Letter,
    ) -> Self {
        let hash = Sha256::digest(format!("{sender}/{recipient}/{}", body.kind()));
        let mut bytes = [0_u8; 16];
        bytes[..6].copy_from_slice(&order.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&hash[..10]);
        Self {
            id: Uuid::from_bytes(bytes),
            tenant: tenant.clone(),
            shard,
            sender,
            recipient,
            body,
            read_in: 0,
        }
    }

    pub(crate) const fn read(&self) -> ReadLetter {
        ReadLetter {
            id: self.id,
            epoch: self.read_in,
        }
    }
}
