//! The one fenced statement (EXECUTION.md §3): a whole batch, or nothing of a shard that is no longer ours.

use sqlx::Row;
use sqlx::postgres::PgConnection;

use super::rows::{FenceRow, Rows};
use super::statement::{USUAL, WHOLE};

/// What must still be true of a shard for its rows to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(crate) shard: i16,
    pub(crate) epoch: i64,
    /// The last committed batch; this one becomes `batch + 1`.
    pub(crate) batch: i64,
    /// Highest batch that the relay is done with; rides along.
    pub(crate) relayed: i64,
    /// Packed list of (invocation, seq): see `store::feed`.
    pub(crate) feed: Vec<u8>,
}

/// Writes the batch; the answer holds the shards whose fence stood. One round trip, one fsync.
pub(crate) async fn write(
    connection: &mut PgConnection,
    fences: &[Fence],
    rows: &Rows<'_>,
    at: chrono::DateTime<chrono::Utc>,
) -> Result<Vec<i16>, sqlx::Error> {
    let is_usual = is_usual(rows);
    let statement = if is_usual { USUAL } else { WHOLE };
    #[cfg(feature = "planted-bugs")]
    let statement = planted(statement);
    let mut query = sqlx::query(statement)
        .bind(fences.iter().map(Fence::row).collect::<Vec<_>>())
        .bind(at)
        .bind(&rows.invocation)
        .bind(&rows.opened)
        .bind(&rows.closed)
        .bind(&rows.record)
        .bind(&rows.ended);
    if !is_usual {
        query = query
            .bind(&rows.key)
            .bind(&rows.changed)
            .bind(&rows.body)
            .bind(&rows.dead)
            .bind(&rows.mail)
            .bind(&rows.letters);
    }
    let standing = query.fetch_all(connection).await?;
    standing.iter().map(|row| row.try_get(0)).collect()
}

/// The statement with the bug that this process shows.
#[cfg(feature = "planted-bugs")]
fn planted(statement: &'static str) -> &'static str {
    use mesh_runtime::planted::is_planted;
    let changed = if is_planted("unlocked_fence") {
        statement.replace(" AND s.epoch = g.epoch AND s.batch = g.batch", "")
    } else if is_planted("end_keeps_open") {
        statement.replace(
            "AND o.invocation = r.id\n), record AS",
            "AND o.invocation = r.id AND false\n), record AS",
        )
    } else if is_planted("no_dedupe_by_key") {
        statement.replace(
            "ORDER BY r.tenant, r.key\n",
            "ORDER BY r.tenant, r.key\n    ON CONFLICT DO NOTHING\n",
        )
    } else {
        return statement;
    };
    // A planted process is short-lived.
    changed.leak()
}

/// Whether nothing of the batch is for a part that only the whole statement has.
fn is_usual(rows: &Rows<'_>) -> bool {
    let Rows {
        invocation: _,
        opened: _,
        closed: _,
        record: _,
        ended,
        key,
        changed,
        body,
        dead,
        mail,
        letters,
    } = rows;
    let is_keyed = !key.is_empty() || ended.iter().any(|row| row.key.is_some());
    !is_keyed && changed.is_empty() && body.is_empty() && dead.is_empty() && mail.is_empty() && letters.is_empty()
}

impl Fence {
    fn row(&self) -> FenceRow<'_> {
        FenceRow {
            shard: self.shard,
            epoch: self.epoch,
            batch: self.batch,
            relayed: self.relayed,
            feed: &self.feed,
        }
    }
}
