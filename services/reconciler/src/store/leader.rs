//! The leader's row: who leads under which epoch, its beats, the takeover.

use mesh_types::Timestamp;
use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};

use super::{big, small};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaderRow {
    pub(crate) epoch: u64,
    /// Empty: nobody.
    pub(crate) holder: String,
    pub(crate) beat: i64,
    /// Since when this holder leads.
    pub(crate) since: Timestamp,
}

type Row = (i64, String, i64, DateTime<Utc>);

impl From<Row> for LeaderRow {
    fn from((epoch, holder, beat, since): Row) -> Self {
        Self {
            epoch: small(epoch),
            holder,
            beat,
            since: since.into(),
        }
    }
}

pub(crate) async fn get(db: impl PgExecutor<'_>) -> Result<LeaderRow, sqlx::Error> {
    let row: Row = sqlx::query_as("SELECT epoch, holder, beat, since FROM reconciler.leader")
        .fetch_one(db)
        .await?;
    Ok(row.into())
}

/// Takes the lead if nothing of it changed since `seen`; raises the epoch.
pub(crate) async fn take(
    db: impl PgExecutor<'_>,
    seen: &LeaderRow,
    holder: &str,
    now: Timestamp,
) -> Result<Option<LeaderRow>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(
        "UPDATE reconciler.leader SET epoch = epoch + 1, holder = $1, beat = 0, since = $2 \
         WHERE epoch = $3 AND holder = $4 AND beat = $5 RETURNING epoch, holder, beat, since",
    )
    .bind(holder)
    .bind(now.to_chrono())
    .bind(big(seen.epoch))
    .bind(&seen.holder)
    .bind(seen.beat)
    .fetch_optional(db)
    .await?;
    Ok(row.map(LeaderRow::from))
}

/// Shows that the leader lives; `false`: it leads no more.
pub(crate) async fn beat(db: impl PgExecutor<'_>, epoch: u64) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("UPDATE reconciler.leader SET beat = beat + 1 WHERE epoch = $1")
        .bind(big(epoch))
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// As [`beat`], first in each commit: no takeover comes between it and the commit's end.
pub(crate) async fn fence(tx: &mut PgConnection, epoch: u64) -> Result<bool, sqlx::Error> {
    beat(tx, epoch).await
}

/// Leaves the lead to whoever comes, at once. The epoch is over.
pub(crate) async fn resign(db: impl PgExecutor<'_>, epoch: u64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE reconciler.leader SET holder = '', epoch = epoch + 1 WHERE epoch = $1")
        .bind(big(epoch))
        .execute(db)
        .await
        .map(drop)
}
