//! Bodies of records: inline, or in parts under their hash, which all members of a fork tree share.

use std::collections::HashMap;

use mesh_api::journal::{Fact, Record};
use mesh_types::Timestamp;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

#[derive(Debug, FromRow)]
pub(crate) struct RecordRow {
    pub(crate) invocation: Uuid,
    pub(crate) seq: i32,
    pub(crate) epoch: i32,
    pub(crate) at: chrono::DateTime<chrono::Utc>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) body_hash: Option<Vec<u8>>,
}

/// Parts that are not inline, by invocation and hash.
type Parts = HashMap<(Uuid, Vec<u8>), Vec<u8>>;

/// Reads the parts of all bodies that are not inline, in one statement. Checks nothing away: a record that cannot be
/// read is an error. In the order of `rows`.
pub(crate) async fn to_records(
    connection: &mut PgConnection,
    rows: Vec<RecordRow>,
) -> Result<Vec<Record>, sqlx::Error> {
    let mut parts = parts(connection, &rows).await?;
    rows.into_iter().map(|row| to_record(row, &mut parts)).collect()
}

fn to_record(row: RecordRow, parts: &mut Parts) -> Result<Record, sqlx::Error> {
    let bytes = match (row.body, row.body_hash) {
        (Some(bytes), _) => bytes,
        // The same body may stand in two records of one invocation.
        (None, Some(hash)) => parts.get(&(row.invocation, hash)).cloned().unwrap_or_default(),
        (None, None) => {
            return Err(broken(row.invocation, row.seq, "it has neither body nor hash"));
        }
    };
    let fact: Fact =
        serde_json::from_slice(&bytes).map_err(|error| broken(row.invocation, row.seq, &error.to_string()))?;
    Ok(Record {
        seq: u32::try_from(row.seq).unwrap_or_default(),
        epoch: u32::try_from(row.epoch).unwrap_or_default(),
        at: Timestamp::from(row.at),
        fact,
    })
}

async fn parts(connection: &mut PgConnection, rows: &[RecordRow]) -> Result<Parts, sqlx::Error> {
    let mut parts = Parts::new();
    let outside = rows.iter().filter(|row| row.body.is_none());
    let (mut invocations, mut hashes) = (Vec::new(), Vec::new());
    for row in outside {
        if let Some(hash) = &row.body_hash
            && parts.insert((row.invocation, hash.clone()), Vec::new()).is_none()
        {
            invocations.push(row.invocation);
            hashes.push(hash.as_slice());
        }
    }
    if hashes.is_empty() {
        return Ok(parts);
    }
    let found: Vec<(Uuid, Vec<u8>, Vec<u8>)> = sqlx::query_as(
        "SELECT w.invocation, w.hash, b.bytes
         FROM unnest($1::uuid[], $2::bytea[]) AS w(invocation, hash)
         JOIN execution.invocation i ON i.id = w.invocation
         JOIN execution.body b ON b.root = i.root AND b.hash = w.hash
         ORDER BY w.invocation, w.hash, b.part",
    )
    .bind(&invocations)
    .bind(&hashes)
    .fetch_all(connection)
    .await?;
    for (invocation, hash, mut bytes) in found {
        parts.entry((invocation, hash)).or_default().append(&mut bytes);
    }
    Ok(parts)
}

fn broken(invocation: Uuid, seq: i32, why: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("record {seq} of invocation {invocation} cannot be read: {why}").into())
}
