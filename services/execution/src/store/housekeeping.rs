//! Deletes what is kept for a time only, some rows at a time.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

/// Keys whose invocation ended before; at most `limit`. Answers how many went.
pub(crate) async fn prune_keys(
    db: impl PgExecutor<'_>,
    ended_before: DateTime<Utc>,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "DELETE FROM execution.key k USING (
             SELECT tenant, key FROM execution.key WHERE ended_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED
         ) old
         WHERE k.tenant = old.tenant AND k.key = old.key",
    )
    .bind(ended_before)
    .bind(limit)
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

/// Relayed batches that were committed before; of the oldest `limit` of the shard, so that a pass that finds nothing
/// reads little.
pub(crate) async fn prune_feed(
    db: impl PgExecutor<'_>,
    shard: i16,
    committed_before: DateTime<Utc>,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "DELETE FROM execution.feed f USING (
             SELECT f.batch FROM (
                 SELECT batch, at FROM execution.feed WHERE shard = $1 ORDER BY batch LIMIT $3
             ) f
             JOIN execution.shard s ON s.id = $1
             WHERE f.at < $2 AND f.batch <= s.relayed_batch
         ) old
         WHERE f.shard = $1 AND f.batch = old.batch",
    )
    .bind(shard)
    .bind(committed_before)
    .bind(limit)
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}
