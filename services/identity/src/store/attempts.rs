//! Table `identity.attempt`.

use mesh_types::Timestamp;
use sqlx::PgConnection;
use sqlx::types::chrono::{DateTime, Utc};

use crate::credential::Hash;
use crate::people::attempts::Count;

/// The count, locked until the transaction ends; a new one where there is none.
pub(crate) async fn lock(tx: &mut PgConnection, subject: &Hash, now: Timestamp) -> Result<Count, sqlx::Error> {
    sqlx::query(
        "INSERT INTO identity.attempt (subject, failed, pending, touched_at) VALUES ($1, 0, 0, $2) \
                 ON CONFLICT ON CONSTRAINT attempt_key DO NOTHING",
    )
    .bind(subject.as_slice())
    .bind(now.to_chrono())
    .execute(&mut *tx)
    .await?;
    let row: (i32, i32, DateTime<Utc>, Option<DateTime<Utc>>) = sqlx::query_as(
        "SELECT failed, pending, touched_at, locked_until FROM identity.attempt WHERE subject = $1 FOR UPDATE",
    )
    .bind(subject.as_slice())
    .fetch_one(tx)
    .await?;
    Ok(Count {
        failed: row.0,
        pending: row.1,
        touched_at: row.2.into(),
        locked_until: row.3.map(Into::into),
    })
}

pub(crate) async fn put(tx: &mut PgConnection, subject: &Hash, count: Count) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE identity.attempt SET failed = $2, pending = $3, touched_at = $4, locked_until = $5 WHERE subject = $1",
    )
    .bind(subject.as_slice())
    .bind(count.failed)
    .bind(count.pending)
    .bind(count.touched_at.to_chrono())
    .bind(count.locked_until.map(Timestamp::to_chrono))
    .execute(tx)
    .await
    .map(drop)
}
