//! What is answered of nodes, as the table has it.

use mesh_types::fleet::{HealthSnapshot, Heartbeat};
use mesh_types::{NodeId, Timestamp};
use sqlx::PgPool;

type At = chrono::DateTime<chrono::Utc>;

macro_rules! columns {
    () => {
        "SELECT node, alive, since, incarnation, seq, beat_at, beat, health_at, health_reported_at, health \
         FROM heartbeat.node WHERE "
    };
}

#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Row {
    pub(crate) node: String,
    pub(crate) alive: bool,
    since: At,
    incarnation: i64,
    seq: i64,
    beat_at: Option<At>,
    beat: Option<String>,
    health_at: Option<At>,
    health_reported_at: Option<At>,
    health: Option<String>,
}

impl Row {
    pub(crate) fn since(&self) -> Timestamp {
        self.since.into()
    }

    /// Place of its heartbeat in the order of the node's, if it has one.
    pub(crate) fn order(&self) -> Option<(u64, u64)> {
        Some((self.incarnation.try_into().ok()?, self.seq.try_into().ok()?))
    }

    pub(crate) fn beat_at(&self) -> Option<Timestamp> {
        self.beat_at.map(Into::into)
    }

    pub(crate) fn health_at(&self) -> Option<Timestamp> {
        self.health_at.map(Into::into)
    }

    pub(crate) fn health_reported_at(&self) -> Option<Timestamp> {
        self.health_reported_at.map(Into::into)
    }

    pub(crate) fn heartbeat(&self) -> Option<Heartbeat> {
        read(&self.node, self.beat.as_deref()?)
    }

    pub(crate) fn health(&self) -> Option<HealthSnapshot> {
        read(&self.node, self.health.as_deref()?)
    }

    /// Roughly, on the wire.
    pub(crate) fn bytes(&self) -> usize {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        200 + length(&self.beat) + length(&self.health)
    }
}

/// A row of another version of this program may not be read; the next report replaces it.
fn read<T: serde::de::DeserializeOwned>(node: &str, json: &str) -> Option<T> {
    serde_json::from_str(json)
        .inspect_err(|error| tracing::warn!(node, %error, "what is stored of a node cannot be read"))
        .ok()
}

pub(crate) async fn of(pool: &PgPool, nodes: &[NodeId]) -> Result<Vec<Row>, sqlx::Error> {
    let nodes: Vec<&str> = nodes.iter().map(NodeId::as_str).collect();
    sqlx::query_as(concat!(columns!(), "node = ANY($1)"))
        .bind(nodes)
        .fetch_all(pool)
        .await
}

/// By their names after `after`.
pub(crate) async fn page(pool: &PgPool, after: &str, count_max: i64) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as(concat!(columns!(), "node > $1 ORDER BY node LIMIT $2"))
        .bind(after)
        .bind(count_max)
        .fetch_all(pool)
        .await
}
