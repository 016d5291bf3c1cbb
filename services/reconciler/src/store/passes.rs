//! Passes as they were kept, newest first.

use mesh_api::reconciler::Pass;
use mesh_store::IdExt as _;
use mesh_types::PassId;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::read_body;

#[derive(FromRow)]
struct Row {
    body: String,
}

/// Passes before `after`, at most `limit`; bytes of all bodies at most about `bytes_max`, but one at least.
pub(crate) async fn list(
    pool: &PgPool,
    after: Option<PassId>,
    limit: i64,
    bytes_max: i64,
) -> Result<Vec<Pass>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT body FROM ( \
             SELECT id, body, sum(octet_length(body)) OVER (ORDER BY id DESC) - octet_length(body) AS before \
             FROM (SELECT id, body FROM reconciler.pass WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2) AS p \
         ) AS q WHERE before <= $3 ORDER BY id DESC",
    )
    .bind(after.map(|id| -> Uuid { id.to_uuid() }))
    .bind(limit)
    .bind(bytes_max)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(|row| read_body(&row.body)).collect()
}

/// Whether there are passes before this one.
pub(crate) async fn has_before(pool: &PgPool, id: PassId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM reconciler.pass WHERE id < $1)")
        .bind(id.to_uuid())
        .fetch_one(pool)
        .await
}
