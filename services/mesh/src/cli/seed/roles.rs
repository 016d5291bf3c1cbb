//! Roles of PostgreSQL that only read: Grafana's, which a migration makes, and that of `mesh backup`. Their passwords are
//! the installation's, so they get them here.

use std::path::Path;

use anyhow::Context as _;
use mesh_runtime::Secret;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::cli::setup::{BACKUP_PASSWORD, BACKUP_ROLE, READER_PASSWORD};

/// Made by a migration, with the right to read what the dashboards show.
const READER: &str = "mesh_grafana";
/// A copy needs one connection; more are a mistake.
const BACKUP_CONNECTIONS: u8 = 4;

/// # Errors
/// When the database does not answer, or `url` is not of a role that may make others.
pub(super) async fn ensure(url: &Secret<String>, folder: &Path) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url.expose())
        .await
        .context("cannot connect to PostgreSQL")?;
    if let Ok(password) = std::fs::read_to_string(folder.join(READER_PASSWORD)) {
        if exists(&mut connection, READER).await? {
            let set = let_in(&mut connection, READER, &password).await;
            set.context("the password of Grafana's role cannot be set")?;
        } else {
            tracing::warn!(
                role = READER,
                "there is no such role: Grafana shows no steps of invocations"
            );
        }
    }
    if let Ok(password) = std::fs::read_to_string(folder.join(BACKUP_PASSWORD)) {
        let made = ensure_backup(&mut connection, &password).await;
        made.context("the role that backups are taken with cannot be made")?;
    }
    connection.close().await?;
    Ok(())
}

/// Sees every row of every tenant, and may change none.
async fn ensure_backup(connection: &mut PgConnection, password: &str) -> sqlx::Result<()> {
    if !exists(connection, BACKUP_ROLE).await? {
        execute(connection, format!("CREATE ROLE {BACKUP_ROLE} NOLOGIN")).await?;
    }
    let rights = format!(
        "ALTER ROLE {BACKUP_ROLE} NOSUPERUSER NOCREATEDB NOCREATEROLE INHERIT BYPASSRLS CONNECTION LIMIT {BACKUP_CONNECTIONS};
         ALTER ROLE {BACKUP_ROLE} SET default_transaction_read_only = on;
         GRANT pg_read_all_data TO {BACKUP_ROLE}"
    );
    execute(connection, rights).await?;
    let_in(connection, BACKUP_ROLE, password).await
}

async fn exists(connection: &mut PgConnection, role: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)")
        .bind(role)
        .fetch_one(connection)
        .await
}

async fn let_in(connection: &mut PgConnection, role: &str, password: &str) -> sqlx::Result<()> {
    // A statement without parameters; quoted by the server itself.
    let statement = sqlx::query_scalar("SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', $1, $2)")
        .bind(role)
        .bind(password.trim())
        .fetch_one(&mut *connection)
        .await?;
    execute(connection, statement).await
}

async fn execute(connection: &mut PgConnection, statement: String) -> sqlx::Result<()> {
    let statements = sqlx::raw_sql(AssertSqlSafe(statement));
    statements.execute(connection).await.map(drop)
}
