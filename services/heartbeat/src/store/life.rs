//! Who is alive, who was told: each change is decided by one conditional update, whoever else looks at it.

use std::time::Duration;

use mesh_store::{IdExt as _, every_tenant_tx};
use mesh_types::event::Event;
use mesh_types::{NodeId, Timestamp};
use sqlx::{PgConnection, PgPool};

type At = chrono::DateTime<chrono::Utc>;

/// Since when heartbeats could be heard, and how long past an interval a node may need to be heard again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hearing {
    pub(crate) since: Timestamp,
    pub(crate) grace: Duration,
}

/// Silent for three intervals, and for one and a grace since anybody could be heard. `$1` now, `$2` since, `$3` grace.
macro_rules! silent {
    () => {
        "n.alive AND n.beat_at + n.ttl_ms * interval '1 ms' <= $1 \
         AND $2 + (n.ttl_ms / 3 + $3) * interval '1 ms' <= $1"
    };
}

const LOSE: &str = concat!(
    "WITH gone AS (
        SELECT n.node FROM heartbeat.node AS n WHERE n.node = ANY($4) AND ",
    silent!(),
    " ORDER BY n.node FOR UPDATE
     )
     UPDATE heartbeat.node AS n SET alive = false, since = $1 FROM gone WHERE n.node = gone.node RETURNING n.node"
);

const OVERDUE: &str = concat!("SELECT n.node FROM heartbeat.node AS n WHERE ", silent!(), " LIMIT $4");

/// Those of these nodes that were alive and are lost from now on.
pub(crate) async fn lose(
    tx: &mut PgConnection,
    nodes: &[NodeId],
    now: Timestamp,
    hearing: Hearing,
) -> Result<Vec<String>, sqlx::Error> {
    let nodes: Vec<&str> = nodes.iter().map(NodeId::as_str).collect();
    sqlx::query_scalar(LOSE)
        .bind(now.to_chrono())
        .bind(hearing.since.to_chrono())
        .bind(millis(hearing.grace))
        .bind(nodes)
        .fetch_all(tx)
        .await
}

/// Alive by the table, and silent for too long: their end was missed, or their presence says otherwise.
pub(crate) async fn overdue(
    pool: &PgPool,
    now: Timestamp,
    hearing: Hearing,
    count_max: i64,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(OVERDUE)
        .bind(now.to_chrono())
        .bind(hearing.since.to_chrono())
        .bind(millis(hearing.grace))
        .bind(count_max)
        .fetch_all(pool)
        .await
}

/// Of these nodes those that are alive, and when their silence will have been too long.
pub(crate) async fn due(pool: &PgPool, nodes: &[NodeId]) -> Result<Vec<(String, Timestamp, Duration)>, sqlx::Error> {
    let nodes: Vec<&str> = nodes.iter().map(NodeId::as_str).collect();
    let rows: Vec<(String, At, i64)> = sqlx::query_as(
        "SELECT node, beat_at + ttl_ms * interval '1 ms', ttl_ms FROM heartbeat.node
         WHERE node = ANY($1) AND alive AND beat_at IS NOT NULL",
    )
    .bind(nodes)
    .fetch_all(pool)
    .await?;
    let ttl = |ms: i64| Duration::from_millis(ms.unsigned_abs());
    let read = rows.into_iter().map(|(node, at, ms)| (node, at.into(), ttl(ms)));
    Ok(read.collect())
}

/// A node of which the last event said something else than what is.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Untold {
    pub(crate) node: String,
    pub(crate) alive: bool,
    incarnation: i64,
}

impl Untold {
    /// 0 where it never sent a heartbeat, which cannot be: then it was never alive.
    pub(crate) fn incarnation(&self) -> u64 {
        u64::try_from(self.incarnation).unwrap_or(0)
    }
}

/// Locks these nodes and answers those of which an event is due.
pub(crate) async fn untold(tx: &mut PgConnection, nodes: &[String]) -> Result<Vec<Untold>, sqlx::Error> {
    sqlx::query_as(
        "SELECT node, alive, incarnation FROM heartbeat.node
         WHERE node = ANY($1) AND told_alive <> alive ORDER BY node FOR UPDATE",
    )
    .bind(nodes)
    .fetch_all(tx)
    .await
}

/// When the node that was heard least lately, of those that count as there, was heard.
pub(crate) async fn oldest_beat(pool: &PgPool) -> Result<Option<Timestamp>, sqlx::Error> {
    let oldest: Option<At> = sqlx::query_scalar("SELECT min(beat_at) FROM heartbeat.node WHERE alive")
        .fetch_one(pool)
        .await?;
    Ok(oldest.map(Timestamp::from))
}

/// Nodes of which an event is due, by their names after `after`.
pub(crate) async fn all_untold(pool: &PgPool, after: &str, count_max: i64) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT node FROM heartbeat.node WHERE told_alive <> alive AND node > $1 ORDER BY node LIMIT $2")
        .bind(after)
        .bind(count_max)
        .fetch_all(pool)
        .await
}

/// Appends an event for each of these nodes and marks them told; they are locked by [`untold`]. The transaction is one
/// of every tenant.
pub(crate) async fn tell(tx: &mut PgConnection, events: &[(String, Event)]) -> Result<(), sqlx::Error> {
    let mut bodies = Vec::with_capacity(events.len());
    for (_, event) in events {
        bodies.push(serde_json::to_string(event).map_err(|error| sqlx::Error::Encode(Box::new(error)))?);
    }
    sqlx::query(
        "INSERT INTO heartbeat.event (tenant, id, body, at)
         SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::timestamptz[])",
    )
    .bind(
        events
            .iter()
            .map(|(_, event)| event.tenant.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(events.iter().map(|(_, event)| event.id.to_uuid()).collect::<Vec<_>>())
    .bind(bodies)
    .bind(events.iter().map(|(_, event)| event.at.to_chrono()).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    sqlx::query("UPDATE heartbeat.node SET told_alive = alive WHERE node = ANY($1)")
        .bind(events.iter().map(|(node, _)| node.as_str()).collect::<Vec<_>>())
        .execute(tx)
        .await
        .map(drop)
}

/// Forgets a node with its history.
pub(crate) async fn forget(pool: &PgPool, nodes: &[String]) -> Result<(), sqlx::Error> {
    let mut tx = every_tenant_tx(pool).await?;
    sqlx::query("DELETE FROM heartbeat.node WHERE node = ANY($1)")
        .bind(nodes)
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

/// Nodes that are gone since before then, by their names after `after`.
pub(crate) async fn gone_before(
    pool: &PgPool,
    before: Timestamp,
    after: &str,
    count_max: i64,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT node FROM heartbeat.node
         WHERE NOT alive AND since < $1 AND coalesce(health_at, since) < $1 AND node > $2 ORDER BY node LIMIT $3",
    )
    .bind(before.to_chrono())
    .bind(after)
    .bind(count_max)
    .fetch_all(pool)
    .await
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
