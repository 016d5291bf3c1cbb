//! Pruning of old history: a whole fork tree, or nothing of it. An advisory lock of the tree's root keeps a fork that
//! is being accepted and the pruning of its source apart, in whichever processes they run.

use chrono::{DateTime, Utc};
use mesh_store::IdExt;
use mesh_types::InvocationId;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use uuid::Uuid;

/// Until the end of the transaction the tree is not pruned.
pub(crate) async fn keep(connection: &mut PgConnection, root: InvocationId) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock_shared(hashtextextended($1::uuid::text, 0))")
        .bind(root.to_uuid())
        .execute(connection)
        .await
        .map(drop)
}

/// Roots of trees whose members have all ended before, none of them a dead letter that nobody has settled.
const PRUNABLE: &str = "
SELECT i.id FROM execution.ended o
JOIN execution.invocation i ON i.id = o.invocation AND i.root = i.id
WHERE o.ended_at < $1
    AND NOT EXISTS (SELECT FROM execution.dead_letter d WHERE d.id = i.id AND d.settled IS NULL)
    AND NOT EXISTS (
        SELECT FROM execution.invocation m
        LEFT JOIN execution.ended e ON e.invocation = m.id
        LEFT JOIN execution.dead_letter d ON d.id = m.id AND d.settled IS NULL
        WHERE m.root = i.id AND m.fork_of IS NOT NULL
            AND (e.ended_at IS NULL OR e.ended_at >= $1 OR d.id IS NOT NULL)
    )";

/// Prunes at most `limit` trees whose members all ended before, and answers how many went. Their keys stay.
pub(crate) async fn trees(pool: &PgPool, ended_before: DateTime<Utc>, limit: i64) -> Result<u64, sqlx::Error> {
    let mut tx = pool.begin().await?;
    let roots = locked(&mut tx, ended_before, limit).await?;
    if roots.is_empty() {
        return Ok(0);
    }
    // Another statement, so that it sees the forks that were accepted before the lock was ours.
    let roots: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(format!("{PRUNABLE} AND i.id = ANY($2)")))
        .bind(ended_before)
        .bind(&roots)
        .fetch_all(&mut *tx)
        .await?;
    let members: Vec<Uuid> = sqlx::query_scalar(
        "SELECT id FROM execution.invocation WHERE id = ANY($1)
         UNION SELECT id FROM execution.invocation WHERE root = ANY($1) AND fork_of IS NOT NULL",
    )
    .bind(&roots)
    .fetch_all(&mut *tx)
    .await?;
    for (statement, ids) in [
        ("DELETE FROM execution.body WHERE root = ANY($1)", &roots),
        ("DELETE FROM execution.record WHERE invocation = ANY($1)", &members),
        ("DELETE FROM execution.ended WHERE invocation = ANY($1)", &members),
        ("DELETE FROM execution.summary WHERE invocation = ANY($1)", &members),
        ("DELETE FROM execution.dead_letter WHERE id = ANY($1)", &members),
        ("DELETE FROM execution.invocation WHERE id = ANY($1)", &members),
    ] {
        sqlx::query(statement).bind(ids).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(roots.len() as u64)
}

/// Roots that may go, without those that somebody forks or prunes right now.
async fn locked(
    connection: &mut PgConnection,
    ended_before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let roots: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(format!("{PRUNABLE} LIMIT $2")))
        .bind(ended_before)
        .bind(limit)
        .fetch_all(&mut *connection)
        .await?;
    sqlx::query_scalar(
        "SELECT r.id FROM unnest($1::uuid[]) AS r(id)
         WHERE pg_try_advisory_xact_lock(hashtextextended(r.id::text, 0))",
    )
    .bind(roots)
    .fetch_all(connection)
    .await
}
