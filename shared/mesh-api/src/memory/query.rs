//! Searches of memories: what is asked, and what each hit's score is made of.

use mesh_types::{AgentName, InvocationId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{BaseName, Memory, MemoryType, Scope, numbers};
use crate::knowledge::KnowledgeHit;

/// Body of `POST /api/v1/memories/search`. By text, by a vector, or by both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryRequest {
    pub agent: AgentName,
    /// Text; may be empty when there is a vector.
    #[serde(default)]
    pub query: String,
    /// Searched by instead of the text's own; of `model`. Base64 of little-endian 32-bit floats is taken for the list.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "numbers")]
    #[schema(value_type = Option<Vec<f32>>)]
    pub vector: Option<Vec<f32>>,
    /// The model that made `vector`; the current one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Hits wanted, 1 to 100.
    #[serde(default = "five")]
    pub k: u32,
    #[serde(default)]
    pub filters: QueryFilters,
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: QueryMode,
    #[serde(default, skip_serializing_if = "is_default")]
    pub weights: Weights,
    /// Maximal marginal relevance: 1 looks at relevance only, 0 at variety only; left out: no such choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mmr: Option<f64>,
    /// Collections of documents that are searched too; their hits come apart, at most `k`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub knowledge: Vec<BaseName>,
}

fn five() -> u32 {
    5
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl QueryRequest {
    /// By text, with every default.
    pub fn new(agent: AgentName, query: impl Into<String>, k: u32) -> Self {
        Self {
            agent,
            query: query.into(),
            vector: None,
            model: None,
            k,
            filters: QueryFilters::default(),
            mode: QueryMode::default(),
            weights: Weights::default(),
            mmr: None,
            knowledge: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueryMode {
    /// Vectors and words, joined by reciprocal rank fusion.
    #[default]
    Hybrid,
    Vector,
    Text,
}

/// How much each part counts in a hit's score; each 0 to 1. The parts' sum need not be 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    pub vector: f64,
    pub text: f64,
    pub recency: f64,
    pub importance: f64,
    /// Age at which `recency` has fallen to a half, in hours.
    pub half_life_hours: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            vector: 1.0,
            text: 1.0,
            recency: 0.0,
            importance: 0.0,
            half_life_hours: 24.0 * 7.0,
        }
    }
}

/// All that is given must match.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueryFilters {
    #[serde(rename = "type")]
    pub kind: Option<MemoryType>,
    /// All of them.
    pub tags: Vec<String>,
    /// Least score of a hit.
    pub score_min: Option<f64>,
    /// Least cosine similarity of a hit that has a vector.
    pub similarity_min: Option<f64>,
    /// Empty: the agent's own and the tenant's, with the session's and the user's when those are named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Scope>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub importance_min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Of which invocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invocation: Option<InvocationId>,
    /// With those that another memory replaced.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub superseded: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QueryReply {
    pub items: Vec<Hit>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub knowledge: Vec<KnowledgeHit>,
    /// Why the text's vector was not searched by, when it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Hit {
    pub memory: Memory,
    /// Higher is better, at most 1: the weighted mean of the parts.
    pub score: f64,
    pub scores: Scores,
}

/// What the score is made of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Scores {
    /// Cosine similarity of the vectors, −1 to 1.
    pub vector: Option<f64>,
    /// How well the words match, 0 to 1.
    pub text: Option<f64>,
    /// Place among the nearest vectors, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector_rank: Option<u32>,
    /// Place among the best by words, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_rank: Option<u32>,
    /// Reciprocal rank fusion of the two places, 1 for the first by both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fusion: Option<f64>,
    /// 1 for now, 0.5 at the half-life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recency: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance: Option<f64>,
    /// Marginal relevance at which it was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mmr: Option<f64>,
}
