//! Endpoints of `memory`: store, query, forget.

use mesh_types::{AgentName, InvocationId, MemoryId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

endpoints! { "memory";
    /// Idempotent by `id` (minted when left out).
    MemoryStore = "memory-store", StoreRequest => Memory, Operator, 5 s;
    MemoryQuery = "memory-query", QueryRequest => QueryReply, Viewer, 5 s;
    MemoryGet = "memory-get", MemoryRequest => Memory, Viewer, 5 s;
    MemoryUpdate = "memory-update", UpdateRequest => Memory, Operator, 5 s;
    MemoryForget = "memory-forget", MemoryRequest => Forgotten, Operator, 5 s;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemoryType {
    Episodic,
    Semantic,
    Procedural,
    Working,
}

impl MemoryType {
    pub const ALL: [Self; 4] = [Self::Episodic, Self::Semantic, Self::Procedural, Self::Working];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Episodic => "episodic",
            Self::Semantic => "semantic",
            Self::Procedural => "procedural",
            Self::Working => "working",
        }
    }
}

/// Body of `POST /api/v1/memories`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MemoryId>,
    pub agent: AgentName,
    #[serde(rename = "type", default = "episodic")]
    pub kind: MemoryType,
    /// Text, at most 32 KiB.
    pub content: String,
    #[serde(default)]
    pub tags: Vec<String>,
    /// 0 to 1.
    #[serde(default = "importance")]
    pub importance: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<MemorySource>,
    /// Kept verbatim, such as `{"user_message":…,"agent_reply":…}`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

fn episodic() -> MemoryType {
    MemoryType::Episodic
}

fn importance() -> f64 {
    0.5
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemorySource {
    pub invocation: InvocationId,
    pub step: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Memory {
    pub id: MemoryId,
    pub agent: AgentName,
    #[serde(rename = "type")]
    pub kind: MemoryType,
    pub content: String,
    pub tags: Vec<String>,
    pub importance: f64,
    pub source: Option<MemorySource>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    /// Whether a vector is stored; until then it is found by its text only.
    pub embedded: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Body of `POST /api/v1/memories/search`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryRequest {
    pub agent: AgentName,
    pub query: String,
    /// Hits wanted, 1 to 100.
    #[serde(default = "five")]
    pub k: u32,
    #[serde(default)]
    pub filters: QueryFilters,
}

fn five() -> u32 {
    5
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueryFilters {
    #[serde(rename = "type")]
    pub kind: Option<MemoryType>,
    /// All of them.
    pub tags: Vec<String>,
    /// Least score of a hit.
    pub score_min: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QueryReply {
    pub items: Vec<Hit>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Hit {
    pub memory: Memory,
    /// Higher is nearer; 1 is identical.
    pub score: f64,
    pub scores: Scores,
}

/// What the score is made of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Scores {
    /// Cosine similarity of the vectors, −1 to 1.
    pub vector: Option<f64>,
    /// Share of the query's words that the memory has, 0 to 1; ranks what has no vector yet.
    pub text: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryRequest {
    pub id: MemoryId,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpdateRequest {
    pub id: MemoryId,
    pub change: MemoryChange,
}

/// Body of `PATCH /api/v1/memories/{id}`: what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryChange {
    pub content: Option<String>,
    pub tags: Option<Vec<String>>,
    pub importance: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Forgotten {
    pub id: MemoryId,
    pub forgotten: bool,
}
