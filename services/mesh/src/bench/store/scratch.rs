//! What the ceiling needs besides the real tables, and how all of it goes again. The mesh's own shards are never
//! touched: the ceiling has a table of shards of its own, with numbers that no mesh has.

use sqlx::pool::PoolConnection;
use sqlx::{Executor, PgPool, Postgres};

use super::CEILING_TENANT;

/// Number of the first of the ceiling's shards.
pub(in crate::bench) const FIRST_SHARD: i16 = 20_000;
pub(in crate::bench) const SHARDS: i16 = 16;
/// One measurement at a time on one database: advisory lock, kept by the connection.
const LOCK: i64 = 0x6d65_7368_6265_6e63;

/// The right to measure on this database; its connection gives it back.
pub(in crate::bench) struct Lock(PoolConnection<Postgres>);

/// `None`: another measurement runs.
pub(in crate::bench) async fn lock(owner: &PgPool) -> Result<Option<Lock>, sqlx::Error> {
    let mut connection = owner.acquire().await?;
    // Nobody else may get a connection that holds it.
    connection.close_on_drop();
    let is_free: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
        .bind(LOCK)
        .fetch_one(&mut *connection)
        .await?;
    Ok(is_free.then_some(Lock(connection)))
}

impl Lock {
    /// Gives it back.
    pub(in crate::bench) async fn release(self) -> Result<(), sqlx::Error> {
        self.0.close().await
    }
}

/// Makes the table of shards, as `migrations/0005` makes the real one.
pub(in crate::bench) async fn create(owner: &PgPool) -> Result<(), sqlx::Error> {
    drop_shards(owner).await?;
    owner
        .execute(
            "CREATE TABLE execution.bench_ceiling_shard (
                id smallint PRIMARY KEY,
                owner text NOT NULL DEFAULT '',
                epoch bigint NOT NULL DEFAULT 1,
                batch bigint NOT NULL DEFAULT 0,
                beat bigint NOT NULL DEFAULT 0,
                relayed_batch bigint NOT NULL DEFAULT 0
            ) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0)",
        )
        .await?;
    owner
        .execute("GRANT SELECT, UPDATE ON execution.bench_ceiling_shard TO mesh_execution")
        .await?;
    sqlx::query("INSERT INTO execution.bench_ceiling_shard (id) SELECT generate_series($1::int4, $2::int4)")
        .bind(i32::from(FIRST_SHARD))
        .bind(i32::from(FIRST_SHARD + SHARDS - 1))
        .execute(owner)
        .await
        .map(drop)
}

/// Removes the table of shards and every row of the ceiling, also what a killed measurement left.
pub(in crate::bench) async fn remove(owner: &PgPool) -> Result<(), sqlx::Error> {
    drop_shards(owner).await?;
    let mut tx = owner.begin().await?;
    for statement in [
        "DELETE FROM execution.record WHERE invocation IN (SELECT id FROM execution.invocation WHERE tenant = $1)",
        "DELETE FROM execution.ended WHERE invocation IN (SELECT id FROM execution.invocation WHERE tenant = $1)",
        "DELETE FROM execution.open WHERE tenant = $1",
        "DELETE FROM execution.summary WHERE tenant = $1",
        "DELETE FROM execution.invocation WHERE tenant = $1",
    ] {
        sqlx::query(statement).bind(CEILING_TENANT).execute(&mut *tx).await?;
    }
    sqlx::query("DELETE FROM execution.feed WHERE shard BETWEEN $1 AND $2")
        .bind(FIRST_SHARD)
        .bind(FIRST_SHARD + SHARDS - 1)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    vacuum(owner).await
}

/// The deleted rows leave no holes for others to read over.
async fn vacuum(owner: &PgPool) -> Result<(), sqlx::Error> {
    owner
        .execute(
            "VACUUM (SKIP_LOCKED) execution.invocation, execution.open, execution.record, execution.ended,
                execution.summary, execution.feed",
        )
        .await
        .map(drop)
}

async fn drop_shards(owner: &PgPool) -> Result<(), sqlx::Error> {
    owner
        .execute("DROP TABLE IF EXISTS execution.bench_ceiling_shard")
        .await
        .map(drop)
}
