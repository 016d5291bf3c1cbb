//! Published versions across tenants, as KV `AGENTS` shows them.

use mesh_api::registry::Pointer;
use mesh_types::{AgentName, Tenant};
use sqlx::PgConnection;

use super::unreadable;
use crate::artifact::Hash;

pub(crate) async fn get(
    tx: &mut PgConnection,
    tenant: &Tenant,
    agent: &AgentName,
) -> Result<Option<Pointer>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT v.tenant, v.agent, v.version, v.hash FROM registry.agent AS a \
         JOIN registry.version AS v ON v.tenant = a.tenant AND v.agent = a.name AND v.version = a.published_version \
         WHERE a.tenant = $1 AND a.name = $2",
    )
    .bind(tenant.as_str())
    .bind(agent.as_str())
    .fetch_optional(tx)
    .await?;
    row.map(Row::pointer).transpose()
}

/// Of every tenant, ordered by tenant and agent, those after `after`; in a transaction of every tenant.
pub(crate) async fn list(
    tx: &mut PgConnection,
    after: Option<&Pointer>,
    limit: i64,
) -> Result<Vec<Pointer>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT v.tenant, v.agent, v.version, v.hash FROM registry.agent AS a \
         JOIN registry.version AS v ON v.tenant = a.tenant AND v.agent = a.name AND v.version = a.published_version \
         WHERE (a.tenant, a.name) > ($1, $2) ORDER BY a.tenant, a.name LIMIT $3",
    )
    .bind(after.map_or("", |pointer| pointer.tenant.as_str()))
    .bind(after.map_or("", |pointer| pointer.agent.as_str()))
    .bind(limit)
    .fetch_all(tx)
    .await?;
    rows.into_iter().map(Row::pointer).collect()
}

#[derive(sqlx::FromRow)]
struct Row {
    tenant: String,
    agent: String,
    version: i32,
    hash: Vec<u8>,
}

impl Row {
    fn pointer(self) -> Result<Pointer, sqlx::Error> {
        Ok(Pointer {
            tenant: self.tenant.parse().map_err(unreadable)?,
            agent: self.agent.parse().map_err(unreadable)?,
            version: u32::try_from(self.version).map_err(unreadable)?,
            hash: Hash::try_from(self.hash).map_err(unreadable)?.to_string(),
        })
    }
}
