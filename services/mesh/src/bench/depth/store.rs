//! What the measurements of depth read straight from `execution`'s tables: what is open, stored, and in which order.

use anyhow::bail;
use chrono::{DateTime, Utc};
use mesh_api::execution::State;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

/// Bytes of one entry of the feed: an id and a seq, big-endian.
const ENTRY: usize = 20;

/// Open invocations in that state, as committed.
pub(super) async fn open(lanes: &PgPool, state: State) -> Result<u64, sqlx::Error> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM execution.open WHERE state = $1")
        .bind(state.as_str())
        .fetch_one(lanes)
        .await?;
    Ok(count.cast_unsigned())
}

/// Number and start of the first step that an invocation itself has recorded as done.
pub(super) async fn first_step(lanes: &PgPool, id: Uuid) -> Result<Option<(i64, DateTime<Utc>)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT step::int8, started_at FROM execution.record WHERE invocation = $1 AND kind = 'done'
         ORDER BY seq LIMIT 1",
    )
    .bind(id)
    .fetch_optional(lanes)
    .await
}

/// Bytes that an invocation without forks takes, without what Postgres adds to a row.
#[derive(Debug, FromRow)]
pub(super) struct Stored {
    pub(super) records: i64,
    pub(super) bodies: i64,
    input: i64,
    ended: i64,
}

impl Stored {
    pub(super) const fn all(&self) -> i64 {
        self.records + self.bodies + self.input + self.ended
    }
}

pub(super) async fn stored(lanes: &PgPool, id: Uuid) -> Result<Stored, sqlx::Error> {
    sqlx::query_as(
        "SELECT
            (SELECT coalesce(sum(coalesce(octet_length(body), 0) + coalesce(octet_length(body_hash), 0)
                + coalesce(octet_length(input_hash), 0)), 0)::int8 FROM execution.record WHERE invocation = $1) AS records,
            (SELECT coalesce(sum(octet_length(bytes) + octet_length(hash)), 0)::int8
                FROM execution.body WHERE root = $1) AS bodies,
            (SELECT octet_length(input)::int8 FROM execution.invocation WHERE id = $1) AS input,
            (SELECT (coalesce(octet_length(output), 0) + coalesce(octet_length(error), 0))::int8
                FROM execution.ended WHERE invocation = $1) AS ended",
    )
    .bind(id)
    .fetch_one(lanes)
    .await
}

/// What happened to an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventKind {
    Accepted,
    Claimed,
    Ended,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub(super) kind: EventKind,
    pub(super) id: Uuid,
}

/// Events of these invocations of one session, in the order of their commits.
pub(super) async fn events(lanes: &PgPool, ids: &[Uuid]) -> anyhow::Result<Vec<Event>> {
    let shards: Vec<i16> = sqlx::query_scalar("SELECT DISTINCT shard FROM execution.invocation WHERE id = ANY($1)")
        .bind(ids)
        .fetch_all(lanes)
        .await?;
    let [shard] = shards[..] else {
        bail!("one session lies in {} shards", shards.len());
    };
    let rows: Vec<(Uuid, i32, String)> = sqlx::query_as(
        "SELECT invocation, seq, kind FROM execution.record
         WHERE invocation = ANY($1) AND kind IN ('accepted', 'claimed', 'ended')",
    )
    .bind(ids)
    .fetch_all(lanes)
    .await?;
    let kinds: std::collections::HashMap<(Uuid, u32), EventKind> = rows
        .into_iter()
        .filter_map(|(id, seq, kind)| Some(((id, seq.cast_unsigned()), parse(&kind)?)))
        .collect();
    let batches: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT entries FROM execution.feed WHERE shard = $1 ORDER BY batch")
            .bind(shard)
            .fetch_all(lanes)
            .await?;
    let entries = batches.iter().flat_map(|entries| entries.chunks_exact(ENTRY));
    Ok(entries
        .filter_map(|entry| {
            let (id, seq) = entry.split_at(16);
            let id = Uuid::from_slice(id).ok()?;
            let seq = u32::from_be_bytes(seq.try_into().ok()?);
            let kind = *kinds.get(&(id, seq))?;
            Some(Event { kind, id })
        })
        .collect())
}

fn parse(kind: &str) -> Option<EventKind> {
    match kind {
        "accepted" => Some(EventKind::Accepted),
        "claimed" => Some(EventKind::Claimed),
        "ended" => Some(EventKind::Ended),
        _ => None,
    }
}
