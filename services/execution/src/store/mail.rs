//! Letters that wait for the owner of their shard.

use mesh_store::IdExt;
use mesh_types::InvocationId;
use sqlx::PgExecutor;
use uuid::Uuid;

use crate::core::mail::{Letter, Mail};

/// Id, tenant, shard, sender, recipient, body, and the epoch of the shard.
type Row = (Uuid, String, i16, Uuid, Uuid, Vec<u8>, i64);

/// The oldest letters of those shards, at most `limit`. One that cannot be read is left where it is, with an error in
/// the log.
pub(crate) async fn waiting(db: impl PgExecutor<'_>, shards: &[i16], limit: i64) -> Result<Vec<Mail>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT m.id, m.tenant, m.shard, m.sender, m.recipient, m.body, s.epoch
         FROM execution.mail m JOIN execution.shard s ON s.id = m.shard
         WHERE m.shard = ANY($1) ORDER BY m.id LIMIT $2",
    )
    .bind(shards)
    .bind(limit)
    .fetch_all(db)
    .await?;
    let mut letters = Vec::with_capacity(rows.len());
    for (id, tenant, shard, sender, recipient, body, read_in) in rows {
        let parsed = tenant.parse().ok().zip(serde_json::from_slice::<Letter>(&body).ok());
        let Some((tenant, body)) = parsed else {
            tracing::error!(letter = %id, "a letter cannot be read");
            continue;
        };
        letters.push(Mail {
            id,
            tenant,
            shard: shard.cast_unsigned(),
            sender: InvocationId::from_uuid(sender),
            recipient: InvocationId::from_uuid(recipient),
            body,
            read_in,
        });
    }
    Ok(letters)
}

/// A letter of nobody's batch: the same one twice is one.
pub(crate) async fn post(db: impl PgExecutor<'_>, letter: &Mail) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO execution.mail (id, tenant, shard, kind, sender, recipient, body) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT DO NOTHING",
    )
    .bind(letter.id)
    .bind(letter.tenant.as_str())
    .bind(letter.shard.cast_signed())
    .bind(letter.body.kind())
    .bind(letter.sender.to_uuid())
    .bind(letter.recipient.to_uuid())
    .bind(serde_json::to_vec(&letter.body).unwrap_or_default())
    .execute(db)
    .await
    .map(drop)
}

/// Their recipients have ended, or have heard of it before: committed facts, so that no fence is needed.
pub(crate) async fn discard(db: impl PgExecutor<'_>, letters: &[Uuid]) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM execution.mail WHERE id = ANY($1)")
        .bind(letters)
        .execute(db)
        .await
        .map(drop)
}
