//! The committed feed: what each batch wrote, packed, and its way back to records.

use std::collections::BTreeMap;

use mesh_api::journal::Record;
use mesh_store::IdExt;
use mesh_types::{Id, InvocationId};
use sqlx::PgPool;

use super::body;

/// Bytes of one entry: a 16-byte id and a 4-byte seq, big-endian.
const ENTRY: usize = 20;

pub(crate) fn pack(entries: &mut Vec<u8>, id: InvocationId, seq: u32) {
    entries.extend_from_slice(&id.as_u128().to_be_bytes());
    entries.extend_from_slice(&seq.to_be_bytes());
}

/// Entries in the order of the commit; the place in the list is the ordinal.
pub(crate) fn unpack(entries: &[u8]) -> Vec<(InvocationId, u32)> {
    entries
        .chunks_exact(ENTRY)
        .map(|entry| {
            let (id, seq) = entry.split_at(16);
            let id = u128::from_be_bytes(id.try_into().unwrap_or_default());
            (
                InvocationId::from_u128(id),
                u32::from_be_bytes(seq.try_into().unwrap_or_default()),
            )
        })
        .collect()
}

/// Batches of a shard above `after`, oldest first.
pub(crate) async fn batches(
    pool: &PgPool,
    shard: i16,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, Vec<(InvocationId, u32)>)>, sqlx::Error> {
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "SELECT batch, entries FROM execution.feed WHERE shard = $1 AND batch > $2 ORDER BY batch LIMIT $3",
    )
    .bind(shard)
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(batch, entries)| (batch, unpack(&entries)))
        .collect())
}

/// The named records, by invocation, each list in order of seq.
pub(crate) async fn records(
    pool: &PgPool,
    entries: &[(InvocationId, u32)],
) -> Result<BTreeMap<InvocationId, Vec<Record>>, sqlx::Error> {
    let ids: Vec<_> = entries.iter().map(|(id, _)| id.to_uuid()).collect();
    let seqs: Vec<_> = entries
        .iter()
        .map(|(_, seq)| i32::try_from(*seq).unwrap_or(i32::MAX))
        .collect();
    let rows: Vec<body::RecordRow> = sqlx::query_as(
        "SELECT r.invocation, r.seq, r.epoch, r.at, r.body, r.body_hash
         FROM unnest($1::uuid[], $2::int4[]) AS e(id, seq)
         JOIN execution.record r ON r.invocation = e.id AND r.seq = e.seq ORDER BY r.invocation, r.seq",
    )
    .bind(&ids)
    .bind(&seqs)
    .fetch_all(pool)
    .await?;
    let of: Vec<InvocationId> = rows.iter().map(|row| InvocationId::from_uuid(row.invocation)).collect();
    let records = body::to_records(&mut *pool.acquire().await?, rows).await?;
    let mut by_invocation: BTreeMap<InvocationId, Vec<Record>> = BTreeMap::new();
    for (id, record) in of.into_iter().zip(records) {
        by_invocation.entry(id).or_default().push(record);
    }
    Ok(by_invocation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_packing() {
        let list = vec![
            (InvocationId::from_u128(7), 1),
            (InvocationId::from_u128(u128::MAX), u32::MAX),
        ];
        let mut bytes = vec![];
        for (id, seq) in &list {
            pack(&mut bytes, *id, *seq);
        }
        assert_eq!(unpack(&bytes), list);
    }
}
