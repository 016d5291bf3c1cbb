//! Rows of `memory.memory`, one at a time.

use mesh_api::memory::{MemoryChange, StoreRequest};
use mesh_store::IdExt;
use mesh_types::{MemoryId, Tenant, Timestamp};
use pgvector::HalfVector;
use sqlx::PgConnection;

use super::{Row, columns};
use crate::embed::Embedding;

/// A vector and the model that made it.
#[derive(Debug, Clone)]
pub(crate) struct Vector {
    pub(crate) embedding: Embedding,
    pub(crate) model: &'static str,
}

impl Vector {
    pub(crate) fn half(&self) -> HalfVector {
        HalfVector::from_f32_slice(&self.embedding.0)
    }
}

/// A checked request as it is stored.
#[derive(Debug)]
pub(crate) struct NewMemory<'a> {
    pub(crate) id: MemoryId,
    pub(crate) request: &'a StoreRequest,
    pub(crate) metadata: String,
    pub(crate) body_hash: [u8; 32],
    pub(crate) vector: Option<Vector>,
    pub(crate) at: Timestamp,
}

const INSERT: &str = "
    INSERT INTO memory.memory (tenant, id, agent, kind, content, tags, importance, source_invocation, source_step,
        metadata, body_hash, embedding_384, embedding_model, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14)
    ON CONFLICT (tenant, id) DO NOTHING";

/// Whether the row is new; a row of the same id stays as it is.
pub(crate) async fn insert(tx: &mut PgConnection, tenant: &Tenant, new: &NewMemory<'_>) -> Result<bool, sqlx::Error> {
    let request = new.request;
    let done = sqlx::query(INSERT)
        .bind(tenant.as_str())
        .bind(new.id.to_uuid())
        .bind(request.agent.as_str())
        .bind(request.kind.as_str())
        .bind(&request.content)
        .bind(&request.tags)
        .bind(request.importance)
        .bind(request.source.as_ref().map(|source| source.invocation.to_uuid()))
        .bind(request.source.as_ref().map(|source| i64::from(source.step)))
        .bind(&new.metadata)
        .bind(new.body_hash.as_slice())
        .bind(new.vector.as_ref().map(Vector::half))
        .bind(new.vector.as_ref().map(|vector| vector.model))
        .bind(new.at.to_chrono())
        .execute(tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

const GET: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM memory.memory AS m WHERE m.tenant = $1 AND m.id = $2"
);

pub(crate) async fn get(tx: &mut PgConnection, tenant: &Tenant, id: MemoryId) -> Result<Option<Row>, sqlx::Error> {
    sqlx::query_as(GET)
        .bind(tenant.as_str())
        .bind(id.to_uuid())
        .fetch_optional(tx)
        .await
}

const HASH: &str = "SELECT m.body_hash FROM memory.memory AS m WHERE m.tenant = $1 AND m.id = $2";

/// Hash of the request that stored it.
pub(crate) async fn body_hash(
    tx: &mut PgConnection,
    tenant: &Tenant,
    id: MemoryId,
) -> Result<Option<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar(HASH)
        .bind(tenant.as_str())
        .bind(id.to_uuid())
        .fetch_optional(tx)
        .await
}

const UPDATE: &str = concat!(
    "UPDATE memory.memory AS m SET
        content = coalesce($3, m.content),
        tags = coalesce($4, m.tags),
        importance = coalesce($5, m.importance),
        embedding_384 = CASE WHEN $3 IS NULL THEN m.embedding_384 ELSE $6 END,
        embedding_model = CASE WHEN $3 IS NULL THEN m.embedding_model ELSE $7 END,
        updated_at = $8
    WHERE m.tenant = $1 AND m.id = $2
    RETURNING ",
    columns!()
);

/// Changes what is given; new content takes `vector`, or none. `None` if there is no such row.
pub(crate) async fn update(
    tx: &mut PgConnection,
    tenant: &Tenant,
    id: MemoryId,
    change: &MemoryChange,
    vector: Option<&Vector>,
    at: Timestamp,
) -> Result<Option<Row>, sqlx::Error> {
    sqlx::query_as(UPDATE)
        .bind(tenant.as_str())
        .bind(id.to_uuid())
        .bind(&change.content)
        .bind(&change.tags)
        .bind(change.importance)
        .bind(vector.map(Vector::half))
        .bind(vector.map(|vector| vector.model))
        .bind(at.to_chrono())
        .fetch_optional(tx)
        .await
}

const DELETE: &str = "DELETE FROM memory.memory WHERE tenant = $1 AND id = $2 RETURNING agent";

/// The agent whose memory it was, if it was there.
pub(crate) async fn delete(
    tx: &mut PgConnection,
    tenant: &Tenant,
    id: MemoryId,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(DELETE)
        .bind(tenant.as_str())
        .bind(id.to_uuid())
        .fetch_optional(tx)
        .await
}

const FORGET: &str = "INSERT INTO memory.forgotten (tenant, memory, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";

pub(crate) async fn mark_forgotten(
    tx: &mut PgConnection,
    tenant: &Tenant,
    id: MemoryId,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(FORGET)
        .bind(tenant.as_str())
        .bind(id.to_uuid())
        .bind(at.to_chrono())
        .execute(tx)
        .await
        .map(|_| ())
}

const IS_FORGOTTEN: &str = "SELECT EXISTS (SELECT FROM memory.forgotten WHERE tenant = $1 AND memory = $2)";

pub(crate) async fn is_forgotten(tx: &mut PgConnection, tenant: &Tenant, id: MemoryId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(IS_FORGOTTEN)
        .bind(tenant.as_str())
        .bind(id.to_uuid())
        .fetch_one(tx)
        .await
}
