//! Forgetting: one memory, or all that match, with a receipt.

use mesh_types::{AgentName, InvocationId, MemoryId, ReceiptId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{MemoryType, Scope};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Forgotten {
    pub id: MemoryId,
    pub forgotten: bool,
}

/// Body of `POST /api/v1/memories/forget`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ForgetRequest {
    /// The same id again answers with the first receipt (minted when left out).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<ReceiptId>,
    pub filter: ForgetFilter,
    /// Keeps what was consolidated from the forgotten ones.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_derived: bool,
    /// Counts only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// All that is given must match; at least one thing must be given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ForgetFilter {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<MemoryId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<MemoryType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// All of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Of which invocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invocation: Option<InvocationId>,
    /// Created before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
}

/// Proof that memories were erased; it holds nothing of them but their ids' digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Receipt {
    pub id: ReceiptId,
    /// Memories erased (or, in a dry run, that would be).
    pub forgotten: u64,
    /// Of them, those that were derived of others.
    pub derived: u64,
    /// SHA-256, in hex, of the sorted ids, a newline after each.
    pub ids_sha256: String,
    pub at: Timestamp,
    pub by: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}
