//! Table `identity.signing_key`.

use mesh_types::Timestamp;
use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};

/// A key as it is kept. No `Debug`: the seed is the key.
pub(crate) struct Stored {
    pub(crate) id: String,
    pub(crate) seed: Vec<u8>,
    pub(crate) signs_until: Timestamp,
    pub(crate) good_until: Timestamp,
}

type Row = (String, Vec<u8>, DateTime<Utc>, DateTime<Utc>);

fn stored(row: Row) -> Stored {
    Stored {
        id: row.0,
        seed: row.1,
        signs_until: row.2.into(),
        good_until: row.3.into(),
    }
}

pub(crate) async fn get(db: impl PgExecutor<'_>, id: &str) -> Result<Option<Stored>, sqlx::Error> {
    let row: Option<Row> =
        sqlx::query_as("SELECT id, seed, signs_until, good_until FROM identity.signing_key WHERE id = $1")
            .bind(id)
            .fetch_optional(db)
            .await?;
    Ok(row.map(stored))
}

/// The newest that signs now.
pub(crate) async fn current(db: impl PgExecutor<'_>, now: Timestamp) -> Result<Option<Stored>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT id, seed, signs_until, good_until FROM identity.signing_key WHERE signs_until > $1 \
         ORDER BY id DESC LIMIT 1",
    )
    .bind(now.to_chrono())
    .fetch_optional(db)
    .await?;
    Ok(row.map(stored))
}

pub(crate) async fn insert(tx: &mut PgConnection, key: &Stored, at: Timestamp) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO identity.signing_key (id, seed, created_at, signs_until, good_until) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(&key.id)
    .bind(&key.seed)
    .bind(at.to_chrono())
    .bind(key.signs_until.to_chrono())
    .bind(key.good_until.to_chrono())
    .execute(tx)
    .await
    .map(drop)
}
