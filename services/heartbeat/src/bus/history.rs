//! `health-history`: the few reports of each node that are kept.

use std::collections::BTreeMap;

use mesh_api::Caller;
use mesh_api::heartbeat::{NodeHealth, ObservedRequest};
use mesh_types::fleet::HealthSnapshot;
use mesh_types::{Code, NodeId, Problem};

use super::database;
use crate::state::State;
use crate::store::healths;

/// Nodes of one question: with ten reports of a half KiB each an answer of 2.5 MiB.
const NODES_MAX: usize = 500;

pub(super) async fn of(state: &State, _caller: &Caller, request: ObservedRequest) -> Result<Vec<NodeHealth>, Problem> {
    if request.nodes.len() > NODES_MAX {
        let detail = format!("{} nodes are asked for, {NODES_MAX} is the most", request.nodes.len());
        return Err(Problem::new(Code::InvalidRequest, detail).field("nodes"));
    }
    let rows = healths::history(&state.pool, &request.nodes).await;
    Ok(by_node(rows.map_err(database("reading the health of nodes"))?))
}

/// A report that another version of this program wrote, and this one cannot read, is left out.
fn by_node(rows: Vec<(String, String)>) -> Vec<NodeHealth> {
    let mut nodes: BTreeMap<NodeId, Vec<HealthSnapshot>> = BTreeMap::new();
    for (node, health) in rows {
        if let (Ok(node), Ok(health)) = (node.parse(), serde_json::from_str(&health)) {
            nodes.entry(node).or_default().push(health);
        }
    }
    let pairs = nodes.into_iter();
    pairs
        .map(|(node_id, reports)| NodeHealth { node_id, reports })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::health;

    #[test]
    fn reports_stay_in_their_order_and_unreadable_ones_are_left_out() {
        let row = |node: &str, ms| {
            (
                node.to_owned(),
                serde_json::to_string(&health(node, ms, ms).snapshot).unwrap(),
            )
        };
        let read = by_node(vec![row("b", 2), row("b", 5), ("b".into(), "{}".into()), row("a", 9)]);
        let told: Vec<(String, Vec<u64>)> = read
            .iter()
            .map(|node| {
                let at = node.reports.iter().map(|report| report.reported_at.as_millis());
                (node.node_id.to_string(), at.collect())
            })
            .collect();
        assert_eq!(told, [("a".to_owned(), vec![9]), ("b".to_owned(), vec![2, 5])]);
    }
}
