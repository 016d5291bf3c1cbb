//! Tables `registry.version` and `registry.artifact`: insert only.

use mesh_api::registry::VersionView;
use mesh_types::{AgentName, Tenant, Timestamp};
use sqlx::PgConnection;
use sqlx::types::chrono::{DateTime, Utc};

use super::unreadable;
use crate::agents::Declared;
use crate::artifact::{Artifact, Hash};
use crate::placed::Placed;

/// Stores the bytes under their hash; storing them again changes nothing.
pub(crate) async fn put_artifact(
    tx: &mut PgConnection,
    tenant: &Tenant,
    artifact: &Artifact,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO registry.artifact (tenant, hash, bytes, created_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT ON CONSTRAINT artifact_key DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(artifact.hash.as_bytes())
    .bind(artifact.json.as_bytes())
    .bind(at.to_chrono())
    .execute(tx)
    .await
    .map(|_| ())
}

pub(crate) async fn artifact(
    tx: &mut PgConnection,
    tenant: &Tenant,
    hash: &Hash,
) -> Result<Option<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar("SELECT bytes FROM registry.artifact WHERE tenant = $1 AND hash = $2")
        .bind(tenant.as_str())
        .bind(hash.as_bytes())
        .fetch_optional(tx)
        .await
}

/// The version of this content, made by `made` at that time if there is none. The agent's row must be locked: versions
/// count up from 1.
pub(crate) async fn ensure(
    tx: &mut PgConnection,
    tenant: &Tenant,
    agent: &AgentName,
    declared: &Declared,
    made: (Timestamp, &str),
) -> Result<u32, sqlx::Error> {
    let hash = &declared.artifact.hash;
    let placed = Placed::of(&declared.agent.spec);
    let known: Option<i32> =
        sqlx::query_scalar("SELECT version FROM registry.version WHERE tenant = $1 AND agent = $2 AND hash = $3")
            .bind(tenant.as_str())
            .bind(agent.as_str())
            .bind(hash.as_bytes())
            .fetch_optional(&mut *tx)
            .await?;
    if let Some(version) = known {
        return u32::try_from(version).map_err(unreadable);
    }
    let version: i32 = sqlx::query_scalar(
        "INSERT INTO registry.version (tenant, agent, version, hash, created_at, created_by, placed) \
         SELECT $1, $2, coalesce(max(version), 0) + 1, $3, $4, $5, $6 FROM registry.version \
         WHERE tenant = $1 AND agent = $2 RETURNING version",
    )
    .bind(tenant.as_str())
    .bind(agent.as_str())
    .bind(hash.as_bytes())
    .bind(made.0.to_chrono())
    .bind(made.1)
    .bind(Placed::text(placed.as_ref()).map_err(unreadable)?)
    .fetch_one(tx)
    .await?;
    u32::try_from(version).map_err(unreadable)
}

/// The hash of one version.
pub(crate) async fn hash_of(
    tx: &mut PgConnection,
    tenant: &Tenant,
    agent: &AgentName,
    version: u32,
) -> Result<Option<Hash>, sqlx::Error> {
    let hash: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT hash FROM registry.version WHERE tenant = $1 AND agent = $2 AND version = $3")
            .bind(tenant.as_str())
            .bind(agent.as_str())
            .bind(i64::from(version))
            .fetch_optional(tx)
            .await?;
    hash.map(|hash| Hash::try_from(hash).map_err(unreadable)).transpose()
}

/// Newest first, those below version `before`; with their specs and the bytes these have.
pub(crate) async fn list(
    tx: &mut PgConnection,
    tenant: &Tenant,
    agent: &AgentName,
    before: Option<u32>,
    limit: i64,
) -> Result<Vec<(VersionView, usize)>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT v.version, v.hash, v.created_at, v.created_by, b.bytes, \
                coalesce(a.published_version = v.version, false) AS current \
         FROM registry.version AS v \
         JOIN registry.artifact AS b ON b.tenant = v.tenant AND b.hash = v.hash \
         LEFT JOIN registry.agent AS a ON a.tenant = v.tenant AND a.name = v.agent \
         WHERE v.tenant = $1 AND v.agent = $2 AND ($3::bigint IS NULL OR v.version < $3) \
         ORDER BY v.version DESC LIMIT $4",
    )
    .bind(tenant.as_str())
    .bind(agent.as_str())
    .bind(before.map(i64::from))
    .bind(limit)
    .fetch_all(tx)
    .await?;
    rows.into_iter().map(Row::view).collect()
}

#[derive(sqlx::FromRow)]
struct Row {
    version: i32,
    hash: Vec<u8>,
    created_at: DateTime<Utc>,
    created_by: String,
    bytes: Vec<u8>,
    current: bool,
}

impl Row {
    fn view(self) -> Result<(VersionView, usize), sqlx::Error> {
        let view = VersionView {
            version: u32::try_from(self.version).map_err(unreadable)?,
            hash: Hash::try_from(self.hash).map_err(unreadable)?.to_string(),
            created_at: self.created_at.into(),
            created_by: self.created_by,
            current: self.current,
            spec: serde_json::from_slice(&self.bytes).map_err(unreadable)?,
        };
        Ok((view, self.bytes.len()))
    }
}
