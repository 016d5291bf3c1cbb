//! What requests of nodes read and write: the key of tickets, bodies that were sent ahead, who holds what.

use mesh_store::IdExt;
use mesh_types::InvocationId;
use sqlx::{PgExecutor, PgPool};

use crate::core::Holder;

pub(crate) async fn grant_key(db: impl PgExecutor<'_>) -> Result<Vec<u8>, sqlx::Error> {
    sqlx::query_scalar("SELECT grant_key FROM execution.installation")
        .fetch_one(db)
        .await
}

/// Keeps a part of a body until the append that names it. It lies under the invocation's root, to be pruned with it,
/// and by a hash that no record's body has.
pub(crate) async fn put(
    db: impl PgExecutor<'_>,
    id: InvocationId,
    staged: &[u8],
    part: i32,
    bytes: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO execution.body (root, hash, part, tenant, bytes)
         SELECT root, $2, $3, tenant, $4 FROM execution.invocation WHERE id = $1
         ON CONFLICT DO NOTHING",
    )
    .bind(id.to_uuid())
    .bind(staged)
    .bind(part)
    .bind(bytes)
    .execute(db)
    .await
    .map(drop)
}

/// What was put, in one piece; empty if nothing was.
pub(crate) async fn taken(db: &PgPool, id: InvocationId, staged: &[u8]) -> Result<Vec<u8>, sqlx::Error> {
    let parts: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT b.bytes FROM execution.body b JOIN execution.invocation i ON i.root = b.root
         WHERE i.id = $1 AND b.hash = $2 ORDER BY b.part",
    )
    .bind(id.to_uuid())
    .bind(staged)
    .fetch_all(db)
    .await?;
    Ok(parts.concat())
}

/// Their append is answered: nobody asks for them again.
pub(crate) async fn discard(db: &PgPool, id: InvocationId, staged: &[Vec<u8>]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM execution.body b USING execution.invocation i
         WHERE i.id = $1 AND b.root = i.root AND b.hash = ANY($2)",
    )
    .bind(id.to_uuid())
    .bind(staged)
    .execute(db)
    .await
    .map(drop)
}

/// A committed claim, as the database knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) is_cancelling: bool,
    /// Highest committed record.
    pub(crate) seq: u32,
}

/// Whether this start of the node holds the invocation in that epoch.
pub(crate) async fn held(
    db: &PgPool,
    id: InvocationId,
    epoch: u32,
    holder: &Holder,
) -> Result<Option<Claimed>, sqlx::Error> {
    let found: Option<(bool, Option<i32>)> = sqlx::query_as(
        "SELECT o.cancel_requested, (SELECT max(seq) FROM execution.record r WHERE r.invocation = o.invocation)
         FROM execution.open o
         WHERE o.invocation = $1 AND o.state = 'running' AND o.epoch = $2 AND o.node = $3 AND o.incarnation = $4",
    )
    .bind(id.to_uuid())
    .bind(epoch.cast_signed())
    .bind(&*holder.node)
    .bind(holder.incarnation.cast_signed())
    .fetch_optional(db)
    .await?;
    Ok(found.map(|(is_cancelling, seq)| Claimed {
        is_cancelling,
        seq: seq.unwrap_or_default().cast_unsigned(),
    }))
}
