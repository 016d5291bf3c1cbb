//! Endpoints of `registry`: tenants, agents, immutable versions, artifacts.

use mesh_types::agent::{Agent, AgentSpec};
use mesh_types::{AgentName, Tenant, Timestamp};
use serde::{Deserialize, Serialize};

use crate::page::{Page, PageQuery};

endpoints! { "registry";
    /// Creates the tenant if it is missing and creation is allowed.
    TenantEnsure = "tenant-ensure", TenantRequest => TenantView, Developer, 5 s;
    TenantList = "tenant-list", PageQuery => Page<TenantView>, Viewer, 5 s;
    AgentCreate = "agent-create", Agent => AgentView, Developer, 5 s, once;
    AgentGet = "agent-get", AgentRequest => AgentView, Viewer, 5 s;
    AgentList = "agent-list", PageQuery => Page<AgentView>, Viewer, 5 s;
    /// Creates or replaces, guarded by `if_match`.
    AgentUpdate = "agent-update", AgentUpdateRequest => AgentView, Developer, 5 s, once;
    AgentDelete = "agent-delete", AgentGuarded => AgentDeleted, Developer, 5 s;
    /// Done only when the artifact is durably stored under its hash. The same spec again is the same version.
    AgentPublish = "agent-publish", AgentGuarded => Published, Developer, 5 s;
    AgentVersions = "agent-versions", VersionsRequest => Page<VersionView>, Viewer, 5 s;
    /// Makes an older version the published one.
    AgentRollback = "agent-rollback", RollbackRequest => Published, Developer, 5 s;
    /// The published version of an agent of any tenant, for `execution`.
    AgentResolve = "agent-resolve", ResolveRequest => Pointer, Service, 5 s;
    ArtifactGet = "artifact-get", ArtifactRequest => Artifact, Service, 5 s;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantRequest {
    pub name: Tenant,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TenantView {
    pub name: Tenant,
    pub created_at: Timestamp,
}

/// An agent of the caller's tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentRequest {
    pub agent: AgentName,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentGuarded {
    pub agent: AgentName,
    /// The `etag` that must still hold; `problem mesh/precondition-failed` (412) otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentUpdateRequest {
    pub agent: Agent,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<String>,
    /// Whether a missing agent is created (`mesh apply`) or refused (`PUT`).
    pub missing: Missing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    Create,
    Refuse,
}

/// The declared object with what the registry knows of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentView {
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    pub kind: String,
    pub metadata: mesh_types::agent::Metadata,
    pub spec: AgentSpec,
    pub status: AgentStatus,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentStatus {
    /// Value of the `ETag` header, quotes not included.
    pub etag: String,
    /// Counts the changes of the declared object, from 1.
    pub generation: u64,
    /// The version that new invocations are pinned to.
    pub published: Option<PublishedVersion>,
    /// Whether the declared object differs from the published version.
    pub draft: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PublishedVersion {
    pub version: u32,
    /// SHA-256 of the artifact, 64 hexadecimal digits.
    pub hash: String,
    pub published_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentDeleted {
    pub agent: AgentName,
    pub deleted: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Published {
    pub agent: AgentName,
    pub version: u32,
    pub hash: String,
    pub published_at: Timestamp,
    /// Whether this very version was the published one before.
    pub unchanged: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VersionsRequest {
    pub agent: AgentName,
    #[serde(default)]
    pub page: PageQuery,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VersionView {
    pub version: u32,
    pub hash: String,
    pub created_at: Timestamp,
    pub created_by: String,
    /// Whether new invocations are pinned to it.
    pub current: bool,
    pub spec: AgentSpec,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    pub agent: AgentName,
    pub version: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolveRequest {
    pub tenant: Tenant,
    pub agent: AgentName,
}

/// What an invocation is pinned to; also the value of KV `AGENTS` under `<tenant>.<agent>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pointer {
    pub tenant: Tenant,
    pub agent: AgentName,
    pub version: u32,
    pub hash: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArtifactRequest {
    pub tenant: Tenant,
    pub hash: String,
}

/// The artifact's bytes are the JSON of its [`AgentSpec`]; their SHA-256 is the hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    pub hash: String,
    pub bytes: String,
}
