//! Bodies of records: inline, or in parts under their hash.

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

/// Reads the parts where the body is not inline; checks nothing away: a record that cannot be read is an error.
pub(crate) async fn to_record(connection: &mut PgConnection, row: RecordRow) -> Result<Record, sqlx::Error> {
    let bytes = match (row.body, row.body_hash) {
        (Some(bytes), _) => bytes,
        (None, Some(hash)) => parts(connection, row.invocation, &hash).await?,
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

async fn parts(connection: &mut PgConnection, root: Uuid, hash: &[u8]) -> Result<Vec<u8>, sqlx::Error> {
    let parts: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT bytes FROM execution.body WHERE root = $1 AND hash = $2 ORDER BY part")
            .bind(root)
            .bind(hash)
            .fetch_all(connection)
            .await?;
    Ok(parts.concat())
}

fn broken(invocation: Uuid, seq: i32, why: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("record {seq} of invocation {invocation} cannot be read: {why}").into())
}
