//! Table `messaging.channel`.

use mesh_types::{ChannelId, Tenant, Timestamp};
use sqlx::PgConnection;

/// Creates it if it is missing; whether it was. Writes nothing where it exists, as nearly always.
pub(crate) async fn ensure(
    tx: &mut PgConnection,
    tenant: &Tenant,
    channel: &ChannelId,
    at: Timestamp,
    by: &str,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO messaging.channel (tenant, id, created_at, created_by) SELECT $1, $2, $3, $4 \
         WHERE NOT EXISTS (SELECT FROM messaging.channel WHERE tenant = $1 AND id = $2) \
         ON CONFLICT ON CONSTRAINT channel_key DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(channel.as_str())
    .bind(at.to_chrono())
    .bind(by)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) async fn exists(tx: &mut PgConnection, tenant: &Tenant, channel: &ChannelId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM messaging.channel WHERE tenant = $1 AND id = $2)")
        .bind(tenant.as_str())
        .bind(channel.as_str())
        .fetch_one(tx)
        .await
}
