//! Endpoints of `memory`: store, query, browse, forget.

mod forget;
mod numbers;
mod query;

use mesh_types::{AgentName, InvocationId, MemoryId, Timestamp, Token};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use forget::{ForgetFilter, ForgetRequest, Forgotten, Receipt};
pub use query::{Hit, QueryFilters, QueryMode, QueryReply, QueryRequest, Scores, Weights};

use crate::execution::Empty;
use crate::page::{Page, PageQuery};

endpoints! { "memory";
    /// Idempotent by `id` (minted when left out). The answer's id is another one when the same is known already.
    MemoryStore = "memory-store", StoreRequest => Memory, Program, 5 s;
    MemoryQuery = "memory-query", QueryRequest => QueryReply, Viewer, 5 s;
    MemoryGet = "memory-get", MemoryRequest => Memory, Viewer, 5 s;
    /// Some memories of one agent by their ids, as its consolidation reads them.
    MemoryBatch = "memory-batch", BatchRequest => Batch, Service, 5 s;
    /// Newest first.
    MemoryList = "memory-list", ListMemories => Page<Memory>, Viewer, 5 s;
    MemoryUpdate = "memory-update", UpdateRequest => Memory, Operator, 5 s;
    /// What the memory was before each change, newest first.
    MemoryHistory = "memory-history", MemoryRequest => Revisions, Viewer, 5 s;
    MemoryForget = "memory-forget", MemoryRequest => Forgotten, Operator, 5 s;
    /// The right to erasure: all that match, with their history and, unless told otherwise, what was derived of them.
    MemoryErase = "memory-erase", ForgetRequest => Receipt, Operator, 60 s;
    /// Embedding models in use, and how far each is.
    EmbeddingStatus = "embedding-status", Empty => EmbeddingReport, Viewer, 5 s;
    /// Condenses episodic memories of an agent into semantic ones now, instead of when enough have gathered.
    MemoryConsolidate = "memory-consolidate", ConsolidateRequest => Consolidation, Operator, 10 s;
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

/// Who shares a memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All agents of the tenant.
    Tenant,
    /// The agent, in all its sessions.
    #[default]
    Agent,
    /// One session of the agent.
    Session,
    /// All agents of the tenant when they speak with this user.
    User,
}

impl Scope {
    pub const ALL: [Self; 4] = [Self::Tenant, Self::Agent, Self::Session, Self::User];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Agent => "agent",
            Self::Session => "session",
            Self::User => "user",
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
    #[serde(default, skip_serializing_if = "is_agent")]
    pub scope: Scope,
    /// Of scope `session`: which one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Of scope `user`: which one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Until it is deleted, in seconds from now. Left out: 24 hours for `working` ones, never for the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<MemorySource>,
    /// Memories that this one replaces: they are kept, and found no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supersedes: Vec<MemoryId>,
    /// Memories that this one was made of: erasing one of them erases it too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub derived_from: Vec<MemoryId>,
    /// Kept verbatim, such as `{"user_message":…,"agent_reply":…}`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

fn is_agent(scope: &Scope) -> bool {
    *scope == Scope::Agent
}

fn episodic() -> MemoryType {
    MemoryType::Episodic
}

fn importance() -> f64 {
    0.5
}

impl StoreRequest {
    /// An episodic memory of the agent itself, with every default.
    pub fn new(agent: AgentName, content: impl Into<String>) -> Self {
        Self {
            id: None,
            agent,
            kind: episodic(),
            content: content.into(),
            tags: Vec::new(),
            importance: importance(),
            scope: Scope::default(),
            session: None,
            user: None,
            ttl_seconds: None,
            source: None,
            supersedes: Vec::new(),
            derived_from: Vec::new(),
            metadata: Map::new(),
        }
    }
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
    #[serde(default)]
    pub scope: Scope,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    pub source: Option<MemorySource>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    /// Whether a vector of the current model is stored; until then it is found by its text only.
    pub embedded: bool,
    /// 1 when stored; each change adds one.
    #[serde(default = "one")]
    pub version: u32,
    /// How often the same was stored.
    #[serde(default = "one")]
    pub seen: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<MemoryId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

fn one() -> u32 {
    1
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryRequest {
    pub id: MemoryId,
}

/// What a page of memories is cut from: all that is given must match.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListMemories {
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Of which invocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invocation: Option<InvocationId>,
    /// With those that another memory replaced.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub superseded: bool,
    /// Memories a page, 1 to 500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl ListMemories {
    pub fn page(&self) -> PageQuery {
        PageQuery {
            limit: self.limit,
            after: self.after.clone(),
        }
    }
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
    /// From now; 0 keeps it for good.
    pub ttl_seconds: Option<u64>,
    /// Refused unless the memory is of this version.
    pub version: Option<u32>,
}

/// A memory, and what it was before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Revisions {
    pub memory: Memory,
    pub items: Vec<Revision>,
}

/// A memory before a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Revision {
    pub version: u32,
    pub content: String,
    pub tags: Vec<String>,
    pub importance: f64,
    /// When it was changed, by whom.
    pub changed_at: Timestamp,
    pub changed_by: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EmbeddingReport {
    /// What new memories are embedded with.
    pub current: String,
    pub dimensions: u32,
    /// Whether it can be asked now; if not, why.
    pub available: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether its weights are in memory; `None` for one that is asked over the network.
    pub loaded: Option<bool>,
    /// Of the caller's tenant, each model that some memory or piece of a document has a vector of.
    pub models: Vec<EmbeddingModel>,
    /// Memories and pieces that wait for a vector of the current model.
    pub waiting: u64,
    /// Of all memories and pieces, those with a vector of the current model, 0 to 1.
    pub progress: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EmbeddingModel {
    pub model: String,
    pub dimensions: u32,
    pub vectors: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsolidateRequest {
    pub agent: AgentName,
    /// Only if at least so many are not consolidated yet.
    #[serde(default = "two")]
    pub at_least: u32,
}

fn two() -> u32 {
    2
}

/// What was started; the invocation's journal holds the model's call and its outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Consolidation {
    /// `None`: too few memories wait for it.
    pub invocation: Option<InvocationId>,
    pub memories: u32,
}

/// Longest name of a user, in bytes.
const USER_BYTES_MAX: usize = 256;

/// Whom an invocation speaks with: the text `user` of its context, else that of its metadata. What could be no name of
/// a user (empty, longer than 256 bytes, with U+0000) names none. Memories of scope `user` are found and kept by it.
pub fn user_of<'a>(context: &'a Map<String, Value>, metadata: &'a Map<String, Value>) -> Option<&'a str> {
    let named = |fields: &'a Map<String, Value>| fields.get("user").and_then(Value::as_str);
    let is_name = |user: &&str| !user.trim().is_empty() && user.len() <= USER_BYTES_MAX && !user.contains('\0');
    named(context).or_else(|| named(metadata)).filter(is_name)
}

/// Entrypoint of the invocation that condenses memories of its agent. Its payload is a [`ConsolidationPayload`].
pub const CONSOLIDATE_ENTRYPOINT: &str = "memory.consolidate";

/// Memories of one owner, oldest first, at most [`BATCH_MAX`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConsolidationPayload {
    pub memories: Vec<MemoryId>,
}

/// Ids of one [`BatchRequest`].
pub const BATCH_MAX: usize = 100;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchRequest {
    pub agent: AgentName,
    /// 1 to [`BATCH_MAX`].
    pub ids: Vec<MemoryId>,
}

/// In the order of the ids; what is not there, or not stored by that agent, is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    pub items: Vec<Memory>,
}

/// A collection of documents that agents can be given.
pub type BaseName = Token;
