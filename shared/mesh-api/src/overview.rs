//! What the front page asks: how the work of a tenant went since a time, and what waits for a person.

use mesh_types::{AgentName, Timestamp};
use serde::{Deserialize, Serialize};

endpoints! { "execution";
    InvocationOverview = "invocation-overview", OverviewRequest => Overview, Viewer, 10 s;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverviewRequest {
    pub range: OverviewRange,
}

/// How far back, and in how many equal parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub enum OverviewRange {
    /// 60 parts of a minute.
    #[default]
    #[serde(rename = "1h")]
    Hour,
    /// 96 parts of a quarter of an hour.
    #[serde(rename = "24h")]
    Day,
    /// 84 parts of two hours.
    #[serde(rename = "7d")]
    Week,
}

impl OverviewRange {
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
        }
    }

    /// Seconds of a part, and how many parts.
    pub const fn parts(self) -> (u32, u32) {
        match self {
            Self::Hour => (60, 60),
            Self::Day => (900, 96),
            Self::Week => (7_200, 84),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Overview {
    pub range: OverviewRange,
    /// When this was counted.
    pub at: Timestamp,
    /// Begin of the first part: the range ends with the running part.
    pub since: Timestamp,
    /// Seconds of a part.
    pub part_seconds: u32,
    /// Open now.
    pub open: OpenCounts,
    /// Ended since.
    pub ended: EndedCounts,
    /// US dollars since.
    pub cost_usd: f64,
    pub attention: AttentionCounts,
    /// Oldest first; every part is there.
    pub parts: Vec<OverviewPart>,
    /// Agents that have open or ended work, those with most of it first; at most 200.
    pub agents: Vec<AgentOverview>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OpenCounts {
    pub queued: u64,
    pub running: u64,
    pub waiting: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EndedCounts {
    pub completed: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub dead: u64,
}

impl EndedCounts {
    pub const fn all(&self) -> u64 {
        self.completed + self.failed + self.cancelled + self.dead
    }
}

/// What waits for a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AttentionCounts {
    /// Invocations with a call that waits to be allowed.
    pub approvals: u64,
    /// Invocations with a step of which nobody knows whether it happened.
    pub ambiguous: u64,
    /// Dead letters that nobody has settled.
    pub dead_letters: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OverviewPart {
    pub at: Timestamp,
    #[serde(flatten)]
    pub ended: EndedCounts,
    pub cost_usd: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentOverview {
    pub agent: AgentName,
    #[serde(flatten)]
    pub open: OpenCounts,
    #[serde(flatten)]
    pub ended: EndedCounts,
    pub cost_usd: f64,
    /// From acceptance to end of what was completed since, in milliseconds; `None` where nothing was.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}
