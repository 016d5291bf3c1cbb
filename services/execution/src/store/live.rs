//! Reads of the feed of everything: how far shards are, their batches, and what of them a list shows.

use mesh_api::journal::{About, Fact, Record};
use mesh_api::live::{FeedNote, ShardHead, ShardMark};
use mesh_store::IdExt;
use mesh_types::{InvocationId, Tenant};
use sqlx::{FromRow, PgConnection};

use super::{body, feed};

/// Where a record stands in the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    shard: u16,
    batch: u64,
    ordinal: u32,
    invocation: InvocationId,
    seq: u32,
}

#[derive(FromRow)]
struct NoteRow {
    place: i64,
    tenant: String,
    agent: String,
    version: i32,
    session: Option<String>,
    #[sqlx(flatten)]
    record: body::RecordRow,
}

pub(crate) async fn heads(db: &mut PgConnection) -> Result<Vec<ShardHead>, sqlx::Error> {
    let rows: Vec<(i16, i64, i64)> = sqlx::query_as(
        "SELECT s.id, s.batch,
             coalesce((SELECT f.batch FROM execution.feed f WHERE f.shard = s.id ORDER BY f.batch LIMIT 1), s.batch + 1)
         FROM execution.shard s ORDER BY s.id",
    )
    .fetch_all(&mut *db)
    .await?;
    let head = |(shard, batch, oldest): (i16, i64, i64)| ShardHead {
        shard: shard.cast_unsigned(),
        batch: batch.cast_unsigned(),
        oldest: oldest.cast_unsigned(),
    };
    Ok(rows.into_iter().map(head).collect())
}

/// Batches above the marks, each with its entries: by shard in the order of the marks, and by batch.
pub(crate) async fn batches(
    db: &mut PgConnection,
    after: &[ShardMark],
    limit: i64,
) -> Result<Vec<(u16, u64, Vec<Entry>)>, sqlx::Error> {
    let shards: Vec<i16> = after.iter().map(|mark| mark.shard.cast_signed()).collect();
    let marks: Vec<i64> = after.iter().map(|mark| mark.after.cast_signed()).collect();
    let rows: Vec<(i16, i64, Vec<u8>)> = sqlx::query_as(
        "SELECT w.shard, f.batch, f.entries
         FROM unnest($1::int2[], $2::int8[]) WITH ORDINALITY AS w(shard, after, place)
         CROSS JOIN LATERAL (
             SELECT batch, entries FROM execution.feed
             WHERE shard = w.shard AND batch > w.after ORDER BY batch LIMIT $3
         ) f
         ORDER BY w.place, f.batch",
    )
    .bind(&shards)
    .bind(&marks)
    .bind(limit)
    .fetch_all(&mut *db)
    .await?;
    let entries = |(shard, batch, packed): (i16, i64, Vec<u8>)| {
        let (shard, batch) = (shard.cast_unsigned(), batch.cast_unsigned());
        let entry = |((invocation, seq), ordinal)| Entry {
            shard,
            batch,
            ordinal,
            invocation,
            seq,
        };
        (
            shard,
            batch,
            feed::unpack(&packed).into_iter().zip(0..).map(entry).collect(),
        )
    };
    Ok(rows.into_iter().map(entries).collect())
}

/// What lists show of the entries, in their order, without those that were pruned.
pub(crate) async fn notes(
    db: &mut PgConnection,
    entries: &[Entry],
    tenant: Option<&Tenant>,
) -> Result<Vec<(u16, FeedNote)>, sqlx::Error> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = entries.iter().map(|entry| entry.invocation.to_uuid()).collect();
    let seqs: Vec<_> = entries
        .iter()
        .map(|entry| i32::try_from(entry.seq).unwrap_or(i32::MAX))
        .collect();
    let rows: Vec<NoteRow> = sqlx::query_as(
        "SELECT e.place, i.tenant, i.agent, i.version, i.session,
             r.invocation, r.seq, r.epoch, r.at, r.body, r.body_hash
         FROM unnest($1::uuid[], $2::int4[]) WITH ORDINALITY AS e(id, seq, place)
         JOIN execution.record r ON r.invocation = e.id AND r.seq = e.seq
         JOIN execution.invocation i ON i.id = e.id
         WHERE r.kind <> ALL (ARRAY['begun', 'done', 'cancel_requested']) AND ($3::text IS NULL OR i.tenant = $3)
         ORDER BY e.place",
    )
    .bind(&ids)
    .bind(&seqs)
    .bind(tenant.map(Tenant::as_str))
    .fetch_all(&mut *db)
    .await?;
    let mut heads = Vec::with_capacity(rows.len());
    let mut bodies = Vec::with_capacity(rows.len());
    for row in rows {
        heads.push((row.place, row.tenant, row.agent, row.version, row.session));
        bodies.push(row.record);
    }
    let records = body::to_records(db, bodies).await?;
    let mut notes = Vec::with_capacity(records.len());
    for ((place, tenant, agent, version, session), record) in heads.into_iter().zip(records) {
        let place = usize::try_from(place).unwrap_or_default().saturating_sub(1);
        let Some(entry) = entries.get(place) else { continue };
        let note = FeedNote {
            batch: entry.batch,
            ordinal: entry.ordinal,
            tenant: tenant.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            invocation: entry.invocation,
            agent: agent.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            version: version.cast_unsigned(),
            session,
            record: lighter(record),
        };
        notes.push((entry.shard, note));
    }
    Ok(notes)
}

/// Without what only the invocation's own readers want.
fn lighter(mut record: Record) -> Record {
    match &mut record.fact {
        Fact::Ended(ended) => ended.output = None,
        Fact::Signalled(signalled) => match &mut signalled.about {
            About::Signal { value, .. } => *value = serde_json::Value::Null,
            About::Child { output, .. } => *output = None,
            About::Merged { payload, .. } => *payload = serde_json::Value::Null,
            About::Approval { .. } | About::Resolved { .. } => {}
        },
        _ => {}
    }
    record
}
