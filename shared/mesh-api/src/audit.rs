//! Checking the audit's chain of hashes.

use serde::{Deserialize, Serialize};

endpoints! { "identity";
    /// Walks the tenant's chain from its oldest kept fact to its head.
    AuditVerify = "audit-verify", AuditVerifyRequest => AuditVerified, Owner, 60 s;
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AuditVerifyRequest {
    /// A place of the chain that somebody wrote down, `<seq>:<hash in hex>`: also tells a chain that was written anew.
    #[serde(default)]
    pub noted: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditVerified {
    pub intact: bool,
    /// Facts whose hash was computed again.
    pub checked: u64,
    /// Facts that were pruned by age before the first checked one.
    pub pruned: u64,
    /// Facts that have no place yet; they get one within seconds.
    pub unchained: u64,
    /// The last place, as it is to be noted: `<seq>:<hash in hex>`.
    pub head: String,
    pub broken: Option<AuditBreak>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditBreak {
    /// Place in the chain, from 1.
    pub seq: u64,
    /// The fact at that place, if there is one: `evt_…`.
    pub id: Option<String>,
    pub why: String,
}
