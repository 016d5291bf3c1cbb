//! The newest heartbeat of each node, a batch in one statement. What is not newer changes nothing.

use std::sync::Arc;

use mesh_types::fleet::NodeMode;
use sqlx::PgConnection;

use crate::report::Beat;

/// Whoever was lost comes back by a heartbeat that was received after that: one that waited here since before it is no
/// sign of life. Rows are locked in the order of their names, as everywhere, so that two processes never wait for each
/// other. Answers those of whom somebody is to be told something.
const UPSERT: &str = "
    WITH written AS (
        INSERT INTO heartbeat.node AS n (node, alive, since, mode, incarnation, seq, ttl_ms, beat_at, beat)
        SELECT b.node, true, b.at, b.mode, b.incarnation, b.seq, b.ttl_ms, b.at, b.beat
        FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[])
            AS b (node, at, mode, incarnation, seq, ttl_ms, beat)
        ON CONFLICT (node) DO UPDATE SET
            alive = n.alive OR excluded.beat_at > n.since,
            since = CASE WHEN NOT n.alive AND excluded.beat_at > n.since THEN excluded.beat_at ELSE n.since END,
            mode = excluded.mode, incarnation = excluded.incarnation, seq = excluded.seq, ttl_ms = excluded.ttl_ms,
            beat_at = greatest(n.beat_at, excluded.beat_at), beat = excluded.beat
        WHERE (excluded.incarnation, excluded.seq) > (n.incarnation, n.seq)
        RETURNING n.node, n.alive AND NOT n.told_alive AS came, n.mode IS DISTINCT FROM n.told_mode AS is_new_mode
    )
    SELECT node, came, is_new_mode FROM written WHERE came OR is_new_mode";

#[derive(Debug, sqlx::FromRow)]
pub(crate) struct News {
    pub(crate) node: String,
    /// It is alive, and nobody was told.
    pub(crate) came: bool,
    /// `registry` has not been told of its mode.
    pub(crate) is_new_mode: bool,
}

/// Columns of a batch.
#[derive(Default)]
struct Columns {
    nodes: Vec<String>,
    at: Vec<chrono::DateTime<chrono::Utc>>,
    modes: Vec<&'static str>,
    incarnations: Vec<i64>,
    seqs: Vec<i64>,
    ttls: Vec<i64>,
    beats: Vec<String>,
}

/// Writes a batch, of each node at most one, sorted by their names.
pub(crate) async fn upsert(tx: &mut PgConnection, beats: &[Arc<Beat>]) -> Result<Vec<News>, sqlx::Error> {
    let mut columns = Columns::default();
    for beat in beats {
        let json = serde_json::to_string(&beat.heartbeat).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        columns.nodes.push(beat.heartbeat.node_id.to_string());
        columns.at.push(beat.at.to_chrono());
        columns.modes.push(mode_text(beat.heartbeat.mode));
        columns.incarnations.push(beat.heartbeat.incarnation.cast_signed());
        columns.seqs.push(beat.heartbeat.seq.cast_signed());
        columns
            .ttls
            .push(i64::try_from(beat.ttl().as_millis()).unwrap_or(i64::MAX));
        columns.beats.push(json);
    }
    sqlx::query_as(UPSERT)
        .bind(columns.nodes)
        .bind(columns.at)
        .bind(columns.modes)
        .bind(columns.incarnations)
        .bind(columns.seqs)
        .bind(columns.ttls)
        .bind(columns.beats)
        .fetch_all(tx)
        .await
}

/// Those of these nodes whose mode, as it was written last, `registry` is still to be told.
pub(crate) async fn untold_modes(pool: &sqlx::PgPool, nodes: &[&str]) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT node FROM heartbeat.node WHERE node = ANY($1) AND mode IS DISTINCT FROM told_mode")
        .bind(nodes)
        .fetch_all(pool)
        .await
}

/// `registry` knows these modes.
pub(crate) async fn modes_told(tx: &mut PgConnection, told: &[(String, NodeMode)]) -> Result<(), sqlx::Error> {
    let nodes: Vec<&str> = told.iter().map(|(node, _)| node.as_str()).collect();
    let modes: Vec<&str> = told.iter().map(|(_, mode)| mode_text(*mode)).collect();
    sqlx::query(
        "WITH told AS (
             SELECT n.node, t.mode FROM unnest($1::text[], $2::text[]) AS t (node, mode)
             JOIN heartbeat.node AS n ON n.node = t.node ORDER BY n.node FOR UPDATE OF n
         )
         UPDATE heartbeat.node AS n SET told_mode = told.mode FROM told WHERE n.node = told.node",
    )
    .bind(nodes)
    .bind(modes)
    .execute(tx)
    .await
    .map(drop)
}

/// As it is spelled on the wire.
pub(crate) fn mode_text(mode: NodeMode) -> &'static str {
    match mode {
        NodeMode::Private => "private",
        NodeMode::Shared => "shared",
        NodeMode::Sleep => "sleep",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_spelled_as_on_the_wire() {
        for mode in [NodeMode::Private, NodeMode::Shared, NodeMode::Sleep] {
            assert_eq!(serde_json::to_value(mode).unwrap(), mode_text(mode));
        }
    }
}
