//! Published versions with a placement, across tenants.

use mesh_api::fleet::PlacedAgent;
use mesh_types::{AgentName, Tenant};
use sqlx::PgConnection;
use sqlx::types::chrono::{DateTime, Utc};

use super::unreadable;
use crate::artifact::Hash;
use crate::placed::Placed;

/// Where a list goes on: after this agent.
pub(crate) type Place = (Tenant, AgentName);

/// Ordered by tenant and agent, those after `after`, in a transaction of every tenant. Of each the place, and what is
/// placed, if anything: a version from before the column may turn out to be none.
pub(crate) async fn list(
    tx: &mut PgConnection,
    after: Option<&Place>,
    limit: i64,
) -> Result<Vec<(Place, Option<PlacedAgent>)>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT v.tenant, v.agent, v.version, v.hash, v.created_by, a.published_at, v.placed, b.bytes \
         FROM registry.agent AS a \
         JOIN registry.version AS v ON v.tenant = a.tenant AND v.agent = a.name AND v.version = a.published_version \
         LEFT JOIN registry.artifact AS b ON v.placed IS NULL AND b.tenant = v.tenant AND b.hash = v.hash \
         WHERE (a.tenant, a.name) > ($1, $2) AND v.placed IS DISTINCT FROM '' \
         ORDER BY a.tenant, a.name LIMIT $3",
    )
    .bind(after.map_or("", |(tenant, _)| tenant.as_str()))
    .bind(after.map_or("", |(_, agent)| agent.as_str()))
    .bind(limit)
    .fetch_all(tx)
    .await?;
    rows.into_iter().map(Row::read).collect()
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
    bytes: Option<Vec<u8>>,
}

impl Row {
    fn read(self) -> Result<(Place, Option<PlacedAgent>), sqlx::Error> {
        let place: Place = (
            self.tenant.parse().map_err(unreadable)?,
            self.agent.parse().map_err(unreadable)?,
        );
        let placed = match (&self.placed, &self.bytes) {
            (Some(text), _) => Placed::parse(text).map_err(unreadable)?,
            (None, Some(bytes)) => Placed::of(&serde_json::from_slice(bytes).map_err(unreadable)?),
            (None, None) => None,
        };
        let Some(placed) = placed else {
            return Ok((place, None));
        };
        let agent = PlacedAgent {
            tenant: place.0.clone(),
            agent: place.1.clone(),
            owner: self.created_by.strip_prefix("user:").map(str::to_owned),
            version: u32::try_from(self.version).map_err(unreadable)?,
            hash: Hash::try_from(self.hash).map_err(unreadable)?.to_string(),
            published_at: self.published_at.into(),
            placement: placed.placement,
            concurrency: placed.concurrency,
            requires: placed.requires,
        };
        Ok((place, Some(agent)))
    }
}
