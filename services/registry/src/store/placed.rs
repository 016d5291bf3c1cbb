//! Published versions with a placement, across tenants.

use mesh_types::{AgentName, Tenant, Timestamp};
use sqlx::PgConnection;
use sqlx::types::chrono::{DateTime, Utc};

use super::unreadable;
use crate::artifact::Hash;
use crate::placed::Placed;

/// Where a list goes on: after this agent.
pub(crate) type Place = (Tenant, AgentName);

/// What is published there.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) place: Place,
    pub(crate) version: u32,
    pub(crate) hash: Hash,
    pub(crate) created_by: String,
    pub(crate) published_at: Timestamp,
    pub(crate) placed: Noted,
}

#[derive(Debug)]
pub(crate) enum Noted {
    Placed(Placed),
    /// Of a version from before it was noted: its artifact tells.
    Unknown,
}

/// Ordered by tenant and agent, those after `after`, in a transaction of every tenant; without those that are known to
/// declare no placement.
pub(crate) async fn list(tx: &mut PgConnection, after: Option<&Place>, limit: i64) -> Result<Vec<Listed>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT v.tenant, v.agent, v.version, v.hash, v.created_by, a.published_at, v.placed \
         FROM registry.agent AS a \
         JOIN registry.version AS v ON v.tenant = a.tenant AND v.agent = a.name AND v.version = a.published_version \
         WHERE (a.tenant, a.name) > ($1, $2) AND v.placed IS DISTINCT FROM '' \
         ORDER BY a.tenant, a.name LIMIT $3",
    )
    .bind(after.map_or("", |(tenant, _)| tenant.as_str()))
    .bind(after.map_or("", |(_, agent)| agent.as_str()))
    .bind(limit)
    .fetch_all(tx)
    .await?;
    rows.into_iter().map(Row::listed).collect()
}

#[derive(sqlx::FromRow)]
struct Row {
    tenant: String,
    agent: String,
    version: i32,
    hash: Vec<u8>,
    created_by: String,
    published_at: DateTime<Utc>,
    placed: Option<String>,
}

impl Row {
    fn listed(self) -> Result<Listed, sqlx::Error> {
        let placed = match &self.placed {
            Some(text) => Noted::Placed(serde_json::from_str(text).map_err(unreadable)?),
            None => Noted::Unknown,
        };
        Ok(Listed {
            place: (
                self.tenant.parse().map_err(unreadable)?,
                self.agent.parse().map_err(unreadable)?,
            ),
            version: u32::try_from(self.version).map_err(unreadable)?,
            hash: Hash::try_from(self.hash).map_err(unreadable)?,
            created_by: self.created_by,
            published_at: self.published_at.into(),
            placed,
        })
    }
}
