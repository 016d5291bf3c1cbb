//! Table `registry.agent`: the declared objects and which version of each is published.

use mesh_types::{AgentName, Tenant, Timestamp};
use sqlx::PgConnection;
use sqlx::types::chrono::{DateTime, Utc};

use super::unreadable;
use crate::agents::{Current, Declared, Stored};
use crate::artifact::Hash;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT a.declared, a.generation, a.published_version, a.published_at, v.hash AS published_hash, ",
            "a.created_at, a.updated_at FROM registry.agent AS a LEFT JOIN registry.version AS v ",
            "ON v.tenant = a.tenant AND v.agent = a.name AND v.version = a.published_version ",
            $rest
        )
    };
}

pub(crate) async fn get(
    tx: &mut PgConnection,
    tenant: &Tenant,
    name: &AgentName,
) -> Result<Option<Stored>, sqlx::Error> {
    one(tx, select!("WHERE a.tenant = $1 AND a.name = $2"), tenant, name).await
}

/// As [`get`], and nobody else changes it until this transaction ends.
pub(crate) async fn get_locked(
    tx: &mut PgConnection,
    tenant: &Tenant,
    name: &AgentName,
) -> Result<Option<Stored>, sqlx::Error> {
    // A statement of its own: whoever waited for the lock must read what was committed meanwhile, and a join in the
    // locking statement would show the locked row anew but its version as of before the wait.
    sqlx::query("SELECT FROM registry.agent WHERE tenant = $1 AND name = $2 FOR UPDATE")
        .bind(tenant.as_str())
        .bind(name.as_str())
        .execute(&mut *tx)
        .await?;
    get(tx, tenant, name).await
}

async fn one(
    tx: &mut PgConnection,
    sql: &'static str,
    tenant: &Tenant,
    name: &AgentName,
) -> Result<Option<Stored>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(sql)
        .bind(tenant.as_str())
        .bind(name.as_str())
        .fetch_optional(tx)
        .await?;
    row.map(Row::stored).transpose()
}

/// By name, those after `after`.
pub(crate) async fn list(
    tx: &mut PgConnection,
    tenant: &Tenant,
    after: Option<&AgentName>,
    limit: i64,
) -> Result<Vec<Stored>, sqlx::Error> {
    let sql = select!("WHERE a.tenant = $1 AND ($2::text IS NULL OR a.name > $2) ORDER BY a.name LIMIT $3");
    let rows: Vec<Row> = sqlx::query_as(sql)
        .bind(tenant.as_str())
        .bind(after.map(AgentName::as_str))
        .bind(limit)
        .fetch_all(tx)
        .await?;
    rows.into_iter().map(Row::stored).collect()
}

/// Inserts generation 1 if the name is free; whether it was.
pub(crate) async fn insert(
    tx: &mut PgConnection,
    tenant: &Tenant,
    declared: &Declared,
    at: Timestamp,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO registry.agent (tenant, name, declared, spec_hash, generation, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, 1, $5, $5) ON CONFLICT ON CONSTRAINT agent_key DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(declared.agent.metadata.name.as_str())
    .bind(&declared.json)
    .bind(declared.artifact.hash.as_bytes())
    .bind(at.to_chrono())
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Replaces the declared object of a locked row; its generation rises by one.
pub(crate) async fn replace(
    tx: &mut PgConnection,
    tenant: &Tenant,
    declared: &Declared,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE registry.agent SET declared = $3, spec_hash = $4, generation = generation + 1, updated_at = $5 \
         WHERE tenant = $1 AND name = $2",
    )
    .bind(tenant.as_str())
    .bind(declared.agent.metadata.name.as_str())
    .bind(&declared.json)
    .bind(declared.artifact.hash.as_bytes())
    .bind(at.to_chrono())
    .execute(tx)
    .await
    .map(|_| ())
}

/// Moves the pointer of a locked row.
pub(crate) async fn point_to(
    tx: &mut PgConnection,
    tenant: &Tenant,
    name: &AgentName,
    version: u32,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE registry.agent SET published_version = $3, published_at = $4 WHERE tenant = $1 AND name = $2")
        .bind(tenant.as_str())
        .bind(name.as_str())
        .bind(i32::try_from(version).map_err(unreadable)?)
        .bind(at.to_chrono())
        .execute(tx)
        .await
        .map(|_| ())
}

/// Deletes a locked row. Versions and artifacts stay.
pub(crate) async fn delete(tx: &mut PgConnection, tenant: &Tenant, name: &AgentName) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM registry.agent WHERE tenant = $1 AND name = $2")
        .bind(tenant.as_str())
        .bind(name.as_str())
        .execute(tx)
        .await
        .map(|_| ())
}

#[derive(sqlx::FromRow)]
struct Row {
    declared: String,
    generation: i64,
    published_version: Option<i32>,
    published_at: Option<DateTime<Utc>>,
    published_hash: Option<Vec<u8>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Row {
    fn stored(self) -> Result<Stored, sqlx::Error> {
        let published = match (self.published_version, self.published_at, self.published_hash) {
            (Some(version), Some(at), Some(hash)) => Some(Current {
                version: u32::try_from(version).map_err(unreadable)?,
                hash: Hash::try_from(hash).map_err(unreadable)?,
                published_at: at.into(),
            }),
            _ => None,
        };
        Ok(Stored {
            declared: Declared::parse(&self.declared).map_err(unreadable)?,
            generation: u64::try_from(self.generation).map_err(unreadable)?,
            published,
            created_at: self.created_at.into(),
            updated_at: self.updated_at.into(),
        })
    }
}
