//! What requests of nodes read and write: the key of tickets, bodies that were sent ahead, who holds what.

use mesh_api::memory::user_of;
use mesh_api::node::TicketHeldReply;
use mesh_store::IdExt;
use mesh_types::InvocationId;
use sqlx::{PgExecutor, PgPool};

use crate::core::{Holder, StoredInput};

pub(crate) async fn grant_key(db: impl PgExecutor<'_>) -> Result<Vec<u8>, sqlx::Error> {
    sqlx::query_scalar("SELECT grant_key FROM execution.installation")
        .fetch_one(db)
        .await
}

/// Bytes that one invocation may have sent ahead and not named yet. Parts that come at the same moment do not see each
/// other: it may be passed by those.
pub(crate) const STAGED_BYTES_MAX: i64 = 64 * 1024 * 1024;
/// What a smaller part counts as, so that their number is bounded too.
const STAGED_PART_BYTES_MIN: i32 = 16 * 1024;

/// A part of a body that goes ahead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) id: InvocationId,
    /// Of the claim that sends it.
    pub(crate) epoch: u32,
    /// Begins with the invocation's id: so one invocation's are found, and no record's body has such a hash.
    pub(crate) staged: &'a [u8],
    pub(crate) part: i32,
    pub(crate) bytes: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Staged {
    Kept,
    /// [`STAGED_BYTES_MAX`].
    Full,
    /// It has ended.
    Over,
}

/// Keeps a part until the append that names it, under the invocation's root, to be pruned with it. A claim that is lost
/// may send too, while the invocation is open: its late result may be the only one that there is.
pub(crate) async fn put(db: impl PgExecutor<'_>, part: Part<'_>) -> Result<Staged, sqlx::Error> {
    let first = part.id.to_uuid().as_bytes().to_vec();
    let last = [first.as_slice(), &[u8::MAX; 64]].concat();
    let fits: Option<bool> = sqlx::query_scalar(
        "WITH place AS (
            SELECT i.root, i.tenant, greatest(octet_length($4::bytea), $6::int4) + (
                SELECT coalesce(sum(greatest(octet_length(b.bytes), $6)), 0) FROM execution.body b
                WHERE b.root = i.root AND b.hash BETWEEN $7 AND $8 AND (b.hash, b.part) <> ($2, $3)
            ) <= $9 AS fits
            FROM execution.invocation i JOIN execution.open o ON o.invocation = i.id
            WHERE i.id = $1 AND o.epoch >= $5
         ), put AS (
            INSERT INTO execution.body (root, hash, part, tenant, bytes)
            SELECT root, $2, $3, tenant, $4 FROM place WHERE fits
            ON CONFLICT DO NOTHING
         ) SELECT fits FROM place",
    )
    .bind(part.id.to_uuid())
    .bind(part.staged)
    .bind(part.part)
    .bind(part.bytes)
    .bind(part.epoch.cast_signed())
    .bind(STAGED_PART_BYTES_MIN)
    .bind(first)
    .bind(last)
    .bind(STAGED_BYTES_MAX)
    .fetch_optional(db)
    .await?;
    Ok(match fits {
        Some(true) => Staged::Kept,
        Some(false) => Staged::Full,
        None => Staged::Over,
    })
}

/// Whether the node, whichever start of it, holds the invocation in that epoch.
pub(crate) async fn is_held(
    db: impl PgExecutor<'_>,
    id: InvocationId,
    epoch: u32,
    node: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (
            SELECT FROM execution.open WHERE invocation = $1 AND state = 'running' AND epoch = $2 AND node = $3
         )",
    )
    .bind(id.to_uuid())
    .bind(epoch.cast_signed())
    .bind(node)
    .fetch_one(db)
    .await
}

/// As [`is_held`], with what others must know of it: whose memories it may ask for, and which.
pub(crate) async fn told_of_held(
    db: impl PgExecutor<'_>,
    id: InvocationId,
    epoch: u32,
    node: &str,
) -> Result<TicketHeldReply, sqlx::Error> {
    let row: Option<(Option<String>, String, Vec<u8>)> = sqlx::query_as(
        "SELECT i.session, i.artifact, i.input FROM execution.open o JOIN execution.invocation i ON i.id = o.invocation
         WHERE o.invocation = $1 AND o.state = 'running' AND o.epoch = $2 AND o.node = $3",
    )
    .bind(id.to_uuid())
    .bind(epoch.cast_signed())
    .bind(node)
    .fetch_optional(db)
    .await?;
    let Some((session, artifact, input)) = row else {
        return Ok(TicketHeldReply::default());
    };
    let input: StoredInput = serde_json::from_slice(&input).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(TicketHeldReply {
        held: true,
        session,
        user: user_of(&input.context, &input.metadata).map(str::to_owned),
        artifact: Some(artifact),
    })
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
