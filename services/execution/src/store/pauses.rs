//! What is paused: written by any process, read by all.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgExecutor};

#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(crate) struct PauseRow {
    pub(crate) tenant: String,
    pub(crate) agent: String,
    pub(crate) by: String,
    pub(crate) reason: String,
    pub(crate) since: DateTime<Utc>,
}

pub(crate) async fn all(db: impl PgExecutor<'_>) -> Result<Vec<PauseRow>, sqlx::Error> {
    sqlx::query_as("SELECT tenant, agent, by, reason, since FROM execution.pause ORDER BY tenant, agent")
        .fetch_all(db)
        .await
}

/// Whether that changed anything: the first pause of a target stays who paused it.
pub(crate) async fn set(db: impl PgExecutor<'_>, row: &PauseRow, paused: bool) -> Result<bool, sqlx::Error> {
    let query = if paused {
        sqlx::query(
            "INSERT INTO execution.pause (tenant, agent, by, reason, since) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT DO NOTHING",
        )
        .bind(&row.tenant)
        .bind(&row.agent)
        .bind(&row.by)
        .bind(&row.reason)
        .bind(row.since)
    } else {
        sqlx::query("DELETE FROM execution.pause WHERE tenant = $1 AND agent = $2")
            .bind(&row.tenant)
            .bind(&row.agent)
    };
    query.execute(db).await.map(|done| done.rows_affected() > 0)
}
