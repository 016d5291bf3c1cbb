//! What is deleted when. The loop reads ids and times of every tenant; memories are deleted per tenant.

use chrono::{DateTime, Utc};
use mesh_store::{IdExt, every_tenant_tx};
use mesh_types::{MemoryId, Tenant, Timestamp};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

const FOLLOW: &str = "WITH kept AS (
        DELETE FROM memory.expiry AS e USING memory.memory AS m
        WHERE e.tenant = $1 AND e.memory = $2 AND m.tenant = $1 AND m.id = $2 AND m.expires_at IS NULL
    )
    INSERT INTO memory.expiry (tenant, memory, at)
    SELECT m.tenant, m.id, m.expires_at FROM memory.memory AS m
    WHERE m.tenant = $1 AND m.id = $2 AND m.expires_at IS NOT NULL
    ON CONFLICT (tenant, memory) DO UPDATE SET at = excluded.at";

/// Brings the row of a memory in line with its `expires_at`.
pub(crate) async fn follow(tx: &mut PgConnection, tenant: &Tenant, id: MemoryId) -> Result<(), sqlx::Error> {
    sqlx::query(FOLLOW)
        .bind(tenant.as_str())
        .bind(id.to_uuid())
        .execute(tx)
        .await
        .map(|_| ())
}

const DUE: &str = "SELECT tenant, memory FROM memory.expiry WHERE at <= $1 ORDER BY at LIMIT $2";

/// Up to `count` memories of any tenant whose time is over, the oldest first.
pub(crate) async fn due(pool: &PgPool, now: Timestamp, count: i64) -> Result<Vec<(Tenant, MemoryId)>, sqlx::Error> {
    let mut tx = every_tenant_tx(pool).await?;
    let rows: Vec<(String, Uuid)> = sqlx::query_as(DUE)
        .bind(now.to_chrono())
        .bind(count)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    let parse = |(tenant, memory): (String, Uuid)| {
        let tenant = tenant.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok((tenant, IdExt::from_uuid(memory)))
    };
    rows.into_iter().map(parse).collect()
}

/// When the next memory's time is over.
pub(crate) async fn next(pool: &PgPool) -> Result<Option<Timestamp>, sqlx::Error> {
    let mut tx = every_tenant_tx(pool).await?;
    let next: Option<DateTime<Utc>> = sqlx::query_scalar("SELECT min(at) FROM memory.expiry")
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(next.map(Into::into))
}

const EXPIRED: &str = "SELECT m.id FROM memory.memory AS m
    WHERE m.tenant = $1 AND m.id = ANY($2) AND m.expires_at <= $3 ORDER BY m.id FOR UPDATE";

/// Those whose time is over all the same once nobody else holds them.
pub(crate) async fn lock_expired(
    tx: &mut PgConnection,
    tenant: &Tenant,
    ids: &[MemoryId],
    now: Timestamp,
) -> Result<Vec<MemoryId>, sqlx::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.to_uuid()).collect();
    let rows: Vec<Uuid> = sqlx::query_scalar(EXPIRED)
        .bind(tenant.as_str())
        .bind(ids)
        .bind(now.to_chrono())
        .fetch_all(tx)
        .await?;
    Ok(rows.into_iter().map(IdExt::from_uuid).collect())
}
