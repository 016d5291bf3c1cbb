//! The newest health report of each node, and the few before it.

use std::sync::Arc;

use sqlx::{PgConnection, PgPool};

use crate::report::Health;

/// Reports of one node that are kept.
pub(crate) const HISTORY: i64 = 10;

/// A node that was never heard of otherwise gets a row that is not alive. The rule of [`Health::is_newer_than`].
const UPSERT: &str = "
    WITH written AS (
        INSERT INTO heartbeat.node AS n (node, alive, since, health_at, health_reported_at, health, health_count)
        SELECT h.node, false, h.at, h.at, h.reported_at, h.health, 1
        FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::text[]) AS h (node, at, reported_at, health)
        ON CONFLICT (node) DO UPDATE SET
            health_at = excluded.health_at, health_reported_at = excluded.health_reported_at,
            health = excluded.health, health_count = n.health_count + 1
        WHERE n.health_reported_at IS NULL OR excluded.health_reported_at > n.health_reported_at
            OR (excluded.health_at > n.health_at + interval '180 s'
                AND excluded.health_reported_at <> n.health_reported_at)
        RETURNING n.node, n.health_count, n.health_at, n.health_reported_at, n.health
    )
    SELECT node, health_count, health_at, health_reported_at, health FROM written";

/// In a statement of its own: a foreign key does not see a row of the same one.
const KEEP: &str = "
    INSERT INTO heartbeat.health_history AS k (node, slot, at, reported_at, health)
    SELECT h.node, h.slot, h.at, h.reported_at, h.health
    FROM unnest($1::text[], $2::smallint[], $3::timestamptz[], $4::timestamptz[], $5::text[])
        AS h (node, slot, at, reported_at, health)
    ON CONFLICT (node, slot) DO UPDATE SET
        at = excluded.at, reported_at = excluded.reported_at, health = excluded.health";

type At = chrono::DateTime<chrono::Utc>;

const READ: &str = "
    SELECT node, health FROM heartbeat.health_history WHERE node = ANY($1) ORDER BY node, reported_at";

/// Nodes and their reports as JSON: by node, the oldest first.
pub(crate) async fn history(pool: &PgPool, nodes: &[mesh_types::NodeId]) -> Result<Vec<(String, String)>, sqlx::Error> {
    let nodes: Vec<&str> = nodes.iter().map(mesh_types::NodeId::as_str).collect();
    sqlx::query_as(READ).bind(nodes).fetch_all(pool).await
}

/// Writes a batch, of each node at most one.
pub(crate) async fn upsert(tx: &mut PgConnection, healths: &[Arc<Health>]) -> Result<(), sqlx::Error> {
    let mut sorted: Vec<&Health> = healths.iter().map(Arc::as_ref).collect();
    sorted.sort_unstable_by(|one, other| one.node.cmp(&other.node));
    let mut bodies = Vec::with_capacity(sorted.len());
    for health in &sorted {
        let json = serde_json::to_string(&health.snapshot).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        bodies.push(json);
    }
    let nodes: Vec<&str> = sorted.iter().map(|health| health.node.as_str()).collect();
    let at: Vec<At> = sorted.iter().map(|health| health.at.to_chrono()).collect();
    let reported: Vec<At> = sorted
        .iter()
        .map(|health| health.snapshot.reported_at.to_chrono())
        .collect();
    let written: Vec<(String, i64, At, At, String)> = sqlx::query_as(UPSERT)
        .bind(nodes)
        .bind(at)
        .bind(reported)
        .bind(bodies)
        .fetch_all(&mut *tx)
        .await?;
    keep(tx, written).await
}

async fn keep(tx: &mut PgConnection, written: Vec<(String, i64, At, At, String)>) -> Result<(), sqlx::Error> {
    let (mut nodes, mut slots, mut at, mut reported, mut bodies) = (vec![], vec![], vec![], vec![], vec![]);
    for (node, count, health_at, reported_at, health) in written {
        nodes.push(node);
        slots.push(i16::try_from(count.rem_euclid(HISTORY)).unwrap_or(0));
        at.push(health_at);
        reported.push(reported_at);
        bodies.push(health);
    }
    if nodes.is_empty() {
        return Ok(());
    }
    sqlx::query(KEEP)
        .bind(nodes)
        .bind(slots)
        .bind(at)
        .bind(reported)
        .bind(bodies)
        .execute(tx)
        .await
        .map(drop)
}
