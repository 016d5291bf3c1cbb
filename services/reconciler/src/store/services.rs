//! The services that were ever heard, and how long each has been silent.

use mesh_types::Timestamp;
use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceRow {
    pub(crate) name: String,
    /// Processes that answered the last probe.
    pub(crate) instances: u32,
    /// Probes in a row without an answer.
    pub(crate) silent: u32,
    pub(crate) degraded: bool,
    /// Since when it answers, or does not.
    pub(crate) since: Timestamp,
}

type Row = (String, i32, i32, bool, DateTime<Utc>);

pub(crate) async fn all(db: impl PgExecutor<'_>) -> Result<Vec<ServiceRow>, sqlx::Error> {
    let rows: Vec<Row> =
        sqlx::query_as("SELECT name, instances, silent, degraded, since FROM reconciler.service ORDER BY name")
            .fetch_all(db)
            .await?;
    let row = |(name, instances, silent, degraded, since): Row| ServiceRow {
        name,
        instances: u32::try_from(instances).unwrap_or_default(),
        silent: u32::try_from(silent).unwrap_or_default(),
        degraded,
        since: since.into(),
    };
    Ok(rows.into_iter().map(row).collect())
}

pub(super) async fn put(tx: &mut PgConnection, row: &ServiceRow) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO reconciler.service (name, instances, silent, degraded, since) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (name) DO UPDATE SET instances = excluded.instances, silent = excluded.silent, \
             degraded = excluded.degraded, since = excluded.since",
    )
    .bind(&row.name)
    .bind(i32::try_from(row.instances).unwrap_or(i32::MAX))
    .bind(i32::try_from(row.silent).unwrap_or(i32::MAX))
    .bind(row.degraded)
    .bind(row.since.to_chrono())
    .execute(tx)
    .await
    .map(drop)
}
