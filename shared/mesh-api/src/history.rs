//! What happened to an invocation besides its steps: who held it, what it waited for and who ended that, who paused it.

use mesh_types::{InvocationId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::journal::{Outcome, WaitItem};
use crate::page::{Page, PageQuery};

endpoints! { "execution";
    InvocationHistory = "invocation-history", HistoryRequest => Page<Moment>, Viewer, 5 s;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryRequest {
    pub id: InvocationId,
    #[serde(default)]
    pub page: PageQuery,
}

/// One record that is no step, without bodies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Moment {
    /// Place in the journal, from 1.
    pub seq: u32,
    /// Raised by every claim.
    pub epoch: u32,
    pub at: Timestamp,
    #[serde(flatten)]
    pub what: Happened,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Happened {
    Accepted {
        by: String,
    },
    /// A worker took it over.
    Claimed {
        /// The node or, for hosted work, the execution process.
        holder: String,
    },
    Waiting {
        waits_for: Vec<WaitItem>,
    },
    /// A person allowed or denied a tool call.
    Decided {
        step: u32,
        approved: bool,
        by: String,
        note: Option<String>,
    },
    /// A person, or a late result, settled a step of which nobody knew whether it had happened.
    Resolved {
        step: u32,
        /// `run_again`, `done` or `failed`.
        how: String,
        by: String,
        note: Option<String>,
    },
    Signalled {
        name: String,
        by: String,
    },
    ChildEnded {
        step: u32,
        invocation: InvocationId,
        outcome: Outcome,
    },
    /// A message of the same session joined it.
    Merged {
        invocation: InvocationId,
    },
    /// Taken back from its worker without a loss.
    Released {
        reason: String,
    },
    Paused {
        by: String,
        reason: Option<String>,
    },
    Resumed {
        by: String,
        reason: Option<String>,
    },
    CancelRequested {
        by: String,
        reason: String,
    },
    Ended {
        outcome: Outcome,
        reason: Option<String>,
    },
}
