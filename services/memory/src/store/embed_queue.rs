//! Memories that wait for their vector. Claims read the queue of every tenant, ids only; content is read per tenant.

use std::time::Duration;

use chrono::{DateTime, Utc};
use mesh_store::{IdExt, every_tenant_tx};
use mesh_types::{MemoryId, Tenant, Timestamp};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::memories::Vector;

const PUT: &str = "INSERT INTO memory.embed_queue (tenant, memory, next_at) VALUES ($1, $2, $3)
    ON CONFLICT (tenant, memory) DO UPDATE SET attempts = 0, next_at = excluded.next_at, error = NULL";

pub(crate) async fn put(
    tx: &mut PgConnection,
    tenant: &Tenant,
    id: MemoryId,
    next_at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(PUT)
        .bind(tenant.as_str())
        .bind(id.to_uuid())
        .bind(next_at.to_chrono())
        .execute(tx)
        .await
        .map(|_| ())
}

const REMOVE: &str = "DELETE FROM memory.embed_queue WHERE tenant = $1 AND memory = $2";

pub(crate) async fn remove(tx: &mut PgConnection, tenant: &Tenant, id: MemoryId) -> Result<(), sqlx::Error> {
    sqlx::query(REMOVE)
        .bind(tenant.as_str())
        .bind(id.to_uuid())
        .execute(tx)
        .await
        .map(|_| ())
}

/// One memory to embed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) tenant: Tenant,
    pub(crate) id: MemoryId,
    /// This one included.
    pub(crate) attempts: u32,
}

const CLAIM: &str = "UPDATE memory.embed_queue AS q SET attempts = q.attempts + 1, next_at = $2
    FROM (
        SELECT tenant, memory FROM memory.embed_queue WHERE next_at <= $1
        ORDER BY next_at LIMIT $3 FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE q.tenant = due.tenant AND q.memory = due.memory
    RETURNING q.tenant, q.memory, q.attempts";

/// Takes up to `count` that are due; whoever takes them has them for `lease`.
pub(crate) async fn claim(
    pool: &PgPool,
    now: Timestamp,
    lease: Duration,
    count: i64,
) -> Result<Vec<Claim>, sqlx::Error> {
    let mut tx = every_tenant_tx(pool).await?;
    let rows: Vec<(String, Uuid, i32)> = sqlx::query_as(CLAIM)
        .bind(now.to_chrono())
        .bind(now.plus(lease).to_chrono())
        .bind(count)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    let claim = |(tenant, memory, attempts): (String, Uuid, i32)| {
        let tenant = tenant.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Claim {
            tenant,
            id: IdExt::from_uuid(memory),
            attempts: attempts.unsigned_abs(),
        })
    };
    rows.into_iter().map(claim).collect()
}

/// What is to be embedded, as it was read.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Text {
    id: Uuid,
    pub(crate) content: String,
    updated_at: DateTime<Utc>,
}

impl Text {
    pub(crate) fn id(&self) -> MemoryId {
        IdExt::from_uuid(self.id)
    }
}

const TEXTS: &str = "SELECT id, content, updated_at FROM memory.memory WHERE tenant = $1 AND id = ANY($2) ORDER BY id";

pub(crate) async fn texts(tx: &mut PgConnection, tenant: &Tenant, ids: &[MemoryId]) -> Result<Vec<Text>, sqlx::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.to_uuid()).collect();
    sqlx::query_as(TEXTS)
        .bind(tenant.as_str())
        .bind(ids)
        .fetch_all(tx)
        .await
}

const FILL: &str = "UPDATE memory.memory SET embedding_384 = $4, embedding_model = $5
    WHERE tenant = $1 AND id = $2 AND updated_at = $3";

/// Stores the vector unless the memory changed since it was read; whether it did.
pub(crate) async fn fill(
    tx: &mut PgConnection,
    tenant: &Tenant,
    text: &Text,
    vector: &Vector,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(FILL)
        .bind(tenant.as_str())
        .bind(text.id)
        .bind(text.updated_at)
        .bind(vector.half())
        .bind(vector.model)
        .execute(tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

const POSTPONE: &str = "UPDATE memory.embed_queue SET next_at = $3, error = $4 WHERE tenant = $1 AND memory = $2";

pub(crate) async fn postpone(
    tx: &mut PgConnection,
    claim: &Claim,
    next_at: Timestamp,
    error: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(POSTPONE)
        .bind(claim.tenant.as_str())
        .bind(claim.id.to_uuid())
        .bind(next_at.to_chrono())
        .bind(error)
        .execute(tx)
        .await
        .map(|_| ())
}
