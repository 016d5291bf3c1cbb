//! The embedded migrations. Expand/contract, never edited once landed; sqlx takes an advisory lock, so that several
//! processes may start at once.

use std::str::FromStr;

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::error::StoreError;

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

const APPLIED: &str = "SELECT version FROM public._sqlx_migrations WHERE success ORDER BY version";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationReport {
    /// `0002 registry`, in order; empty when the database was up to date.
    pub applied: Vec<String>,
    /// Version of the schema now.
    pub version: i64,
}

/// The version of the schema that this build wants.
pub fn schema_version() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Applies what is missing. The user of `url` must own the database and may create roles; a superuser is needed only
/// where the extension `vector` is not installed yet. Applying twice is a no-op.
pub async fn migrate(url: &str) -> Result<MigrationReport, StoreError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(StoreError::Url)?
        .application_name("mesh-migrate")
        // The bookkeeping table belongs in `public`, whatever search path this user has.
        .options([("search_path", "public")]);
    let mut connection = options.connect().await.map_err(StoreError::Connect)?;
    let before = applied(&mut connection).await.map_err(StoreError::Report)?;
    MIGRATOR
        .run_direct(None, &mut connection, false)
        .await
        .map_err(StoreError::Migrate)?;
    let after = applied(&mut connection).await.map_err(StoreError::Report)?;
    // Nothing was written on this connection since: an error of the goodbye changes nothing.
    connection.close().await.ok();
    let newly = after.iter().filter(|version| !before.contains(version));
    let report = MigrationReport {
        applied: newly.map(|version| label(*version)).collect(),
        version: after.last().copied().unwrap_or(0),
    };
    tracing::info!(version = report.version, applied = ?report.applied, "database migrated");
    Ok(report)
}

/// Schemas that are the mesh's, in the order in which the migrations create them: what a backup copies.
pub fn schemas() -> Vec<&'static str> {
    let name = |line: &'static str| line.strip_prefix("CREATE SCHEMA ")?.split(';').next();
    let each = MIGRATOR.iter();
    each.flat_map(|migration| migration.sql.as_str().lines().filter_map(name))
        .collect()
}

/// Brings the schema to `version`, on a connection whose search path is `public`; within a transaction of the caller all
/// of it is part of that. For a restore, which needs the schema that its rows were written with.
pub async fn migrate_to(connection: &mut PgConnection, version: i64) -> Result<(), StoreError> {
    let migrated = MIGRATOR.run_direct(Some(version), connection, false).await;
    migrated.map_err(StoreError::Migrate)
}

async fn applied(connection: &mut PgConnection) -> Result<Vec<i64>, sqlx::Error> {
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('public._sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        return Ok(Vec::new());
    }
    sqlx::query_scalar(APPLIED).fetch_all(connection).await
}

fn label(version: i64) -> String {
    let known = MIGRATOR.iter().find(|migration| migration.version == version);
    format!(
        "{version:04} {}",
        known.map_or("unknown", |migration| &migration.description)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Role;

    #[test]
    fn every_role_has_a_schema_of_the_migrations() {
        let schemas = schemas();
        for role in Role::ALL {
            assert!(schemas.contains(&role.schema()), "{role:?}: {schemas:?}");
        }
        assert!(!schemas.contains(&"public"));
    }
}
