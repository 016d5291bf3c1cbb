//! Endpoints of `memory` for knowledge: documents in named collections, searched with citations.

use mesh_types::{DocumentId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::memory::BaseName;
use crate::page::Page;

endpoints! { "memory";
    /// A document of the same base and name gets a new version; the same bytes again change nothing.
    KnowledgeAdd = "knowledge-add", AddDocument => Document, Developer, 30 s;
    KnowledgeGet = "knowledge-get", DocumentRequest => Document, Viewer, 5 s;
    KnowledgeList = "knowledge-list", ListDocuments => Page<Document>, Viewer, 5 s;
    /// The newest version's text as it was read, with its chunks.
    KnowledgeText = "knowledge-text", DocumentRequest => DocumentText, Viewer, 5 s;
    KnowledgeDelete = "knowledge-delete", DocumentRequest => DocumentDeleted, Developer, 10 s;
    KnowledgeSearch = "knowledge-search", SearchKnowledge => KnowledgeReply, Viewer, 5 s;
}

/// Body of `POST /api/v1/knowledge/{base}/documents`: text, bytes or a URL, one of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddDocument {
    /// Of the path, over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseName>,
    /// Such as `handbook.md`; of a URL its last part when left out. Its ending tells the media type when nothing else
    /// does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `text/plain`, `text/markdown`, `text/html` or `application/pdf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Bytes in base64 (standard alphabet, padded).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Fetched once, now; private addresses are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Document {
    pub id: DocumentId,
    pub base: BaseName,
    pub name: String,
    pub media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// 1 when added; each change of its bytes adds one.
    pub version: u32,
    /// SHA-256 of the newest bytes, in hex.
    pub sha256: String,
    pub bytes: u64,
    pub state: DocumentState,
    pub chunks: u32,
    /// Of them, those with a vector of the current model.
    pub embedded: u32,
    /// Of them, those taken over from the version before as they were.
    pub kept: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DocumentState {
    /// Found by its words; vectors are still made.
    Embedding,
    Ready,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DocumentRequest {
    pub id: DocumentId,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListDocuments {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseName>,
    /// Documents a page, 1 to 500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DocumentText {
    pub document: Document,
    pub text: String,
    pub chunks: Vec<ChunkView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ChunkView {
    pub number: u32,
    /// From the document's title down.
    pub headings: Vec<String>,
    /// Characters (Unicode scalar values) of the document's text, from 0; `end` is not part of it.
    pub start: u32,
    pub end: u32,
    pub embedded: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DocumentDeleted {
    pub id: DocumentId,
    pub chunks: u32,
}

/// Body of `POST /api/v1/knowledge/search`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchKnowledge {
    /// At least one.
    pub bases: Vec<BaseName>,
    pub query: String,
    /// Hits wanted, 1 to 100.
    #[serde(default = "five")]
    pub k: u32,
    /// Least score of a hit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_min: Option<f64>,
}

fn five() -> u32 {
    5
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KnowledgeReply {
    pub items: Vec<KnowledgeHit>,
    /// Why the text's vector was not searched by, when it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KnowledgeHit {
    pub text: String,
    pub citation: Citation,
    /// Higher is better, at most 1.
    pub score: f64,
    pub scores: crate::memory::Scores,
}

/// Where a piece of text is from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Citation {
    pub document: DocumentId,
    pub base: BaseName,
    pub name: String,
    pub version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    pub headings: Vec<String>,
    /// Characters (Unicode scalar values) of that version's text, from 0; `end` is not part of it.
    pub start: u32,
    pub end: u32,
}
