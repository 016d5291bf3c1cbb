//! `observed` and `observed-all`: the table, and over it what is newer in memory.

use std::collections::HashMap;
use std::sync::Arc;

use mesh_api::heartbeat::{ObservedNode, ObservedRequest};
use mesh_api::{Caller, Page, PageQuery};
use mesh_types::{Code, NodeId, Problem};

use super::database;
use crate::report::{Beat, Health};
use crate::state::State;
use crate::store::observed::{self, Row};

const DOING: &str = "reading what is seen of nodes";
/// Nodes of one question.
const NODES_MAX: usize = 10_000;
/// Bytes of rows in one answer; it ends with the row that passes it. A row's heartbeat holds 512 KiB at most, so the
/// answer fits the server's 8 MiB.
const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;

pub(super) async fn some(
    state: &State,
    _caller: &Caller,
    request: ObservedRequest,
) -> Result<Vec<ObservedNode>, Problem> {
    if request.nodes.len() > NODES_MAX {
        let detail = format!("{} nodes are asked for, {NODES_MAX} is the most", request.nodes.len());
        return Err(Problem::new(Code::InvalidRequest, detail).field("nodes"));
    }
    let rows = observed::of(&state.pool, &request.nodes).await;
    let rows = rows.map_err(database(DOING))?.into_iter();
    let mut rows: HashMap<String, Row> = rows.map(|row| (row.node.clone(), row)).collect();
    let seen = request
        .nodes
        .into_iter()
        .filter_map(|node| merged(state, rows.remove(node.as_str()), node));
    Ok(seen.collect())
}

/// Pages by name. A node that was first heard within the last second may not be in the table yet.
pub(super) async fn all(state: &State, _caller: &Caller, query: PageQuery) -> Result<Page<ObservedNode>, Problem> {
    let after = query.after.clone().unwrap_or_default();
    let limit = query.limit();
    let rows = observed::page(&state.pool, &after, i64::from(limit) + 1).await;
    let rows = rows.map_err(database(DOING))?;
    let mut next = None;
    let mut bytes = 0;
    let mut items = Vec::with_capacity(rows.len());
    let more = rows.len() > limit as usize;
    let mut rows = rows.into_iter().take(limit as usize).peekable();
    while let Some(row) = rows.next() {
        bytes += row.bytes();
        let name = row.node.clone();
        if let Ok(node) = name.parse() {
            items.extend(merged(state, Some(row), node));
        }
        let is_last = rows.peek().is_none();
        if bytes >= ANSWER_BYTES_MAX || is_last {
            next = (more || !is_last).then_some(name);
            break;
        }
    }
    Ok(Page { items, next })
}

fn merged(state: &State, row: Option<Row>, node: NodeId) -> Option<ObservedNode> {
    let (beat, health) = state.nodes().get(&node);
    merge(node, row, beat, health)
}

/// The newer of both sides; `None` where neither has anything.
fn merge(
    node_id: NodeId,
    row: Option<Row>,
    beat: Option<Arc<Beat>>,
    health: Option<Arc<Health>>,
) -> Option<ObservedNode> {
    let row = row.as_ref();
    let stored = row.and_then(Row::order);
    let beat = beat.filter(|beat| stored.is_none_or(|stored| beat.order() > stored));
    let stored = row.and_then(Row::health_reported_at);
    let health = health.filter(|health| stored.is_none_or(|stored| health.snapshot.reported_at > stored));
    let beat_at = beat.as_ref().map(|beat| beat.at).max(row.and_then(Row::beat_at));
    let last_health_at = health
        .as_ref()
        .map(|health| health.at)
        .max(row.and_then(Row::health_at));
    let last_seen_at = beat_at.max(last_health_at)?;
    // The same rule by which the heartbeat will change the row.
    let was_alive = row.is_some_and(|row| row.alive);
    let revived = beat
        .as_ref()
        .filter(|beat| !was_alive && row.is_none_or(|row| beat.at > row.since()));
    let since = revived.map(|beat| beat.at).or(row.map(Row::since));
    Some(ObservedNode {
        alive: was_alive || revived.is_some(),
        since: since.unwrap_or(last_seen_at),
        last_seen_at,
        last_health_at,
        heartbeat: match &beat {
            Some(beat) => Some(beat.heartbeat.clone()),
            None => row.and_then(Row::heartbeat),
        },
        health: match &health {
            Some(health) => Some(health.snapshot.clone()),
            None => row.and_then(Row::health),
        },
        node_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{beat, health};

    #[test]
    fn what_memory_alone_knows_is_alive_by_heartbeats_only() {
        let node = || "n".parse::<NodeId>().unwrap();
        assert_eq!(merge(node(), None, None, None), None);
        let seen = merge(node(), None, Some(Arc::new(beat("n", 3, 2, 7))), None).unwrap();
        assert!(seen.alive);
        assert_eq!((seen.since.as_millis(), seen.last_seen_at.as_millis()), (7, 7));
        assert_eq!(seen.heartbeat.unwrap().incarnation, 3);
        let seen = merge(node(), None, None, Some(Arc::new(health("n", 1, 9)))).unwrap();
        assert!(!seen.alive && seen.heartbeat.is_none());
        assert_eq!(seen.last_health_at.unwrap().as_millis(), 9);
    }
}
