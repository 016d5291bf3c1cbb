//! Table `registry.tenant`; it is no tenant's own, so row level security does not apply.

use mesh_api::registry::TenantView;
use mesh_types::{Tenant, Timestamp};
use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};

use super::unreadable;

/// Inserts it if it is missing; whether it was.
pub(crate) async fn insert(tx: &mut PgConnection, name: &Tenant, at: Timestamp, by: &str) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO registry.tenant (name, created_at, created_by) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(name.as_str())
    .bind(at.to_chrono())
    .bind(by)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) async fn get(db: impl PgExecutor<'_>, name: &Tenant) -> Result<Option<TenantView>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as("SELECT name, created_at FROM registry.tenant WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(db)
        .await?;
    row.map(Row::view).transpose()
}

/// By name, those after `after`.
pub(crate) async fn list(
    db: impl PgExecutor<'_>,
    after: Option<&Tenant>,
    limit: i64,
) -> Result<Vec<TenantView>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT name, created_at FROM registry.tenant WHERE $1::text IS NULL OR name > $1 ORDER BY name LIMIT $2",
    )
    .bind(after.map(Tenant::as_str))
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Row::view).collect()
}

#[derive(sqlx::FromRow)]
struct Row {
    name: String,
    created_at: DateTime<Utc>,
}

impl Row {
    fn view(self) -> Result<TenantView, sqlx::Error> {
        Ok(TenantView {
            name: self.name.parse().map_err(unreadable)?,
            created_at: self.created_at.into(),
        })
    }
}
