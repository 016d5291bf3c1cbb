//! Who sees a node's events: what the registry says of the node, kept as long as no event says that it changed.

use std::collections::HashMap;
use std::time::Duration;

use mesh_api::Caller;
use mesh_api::fleet::{NodeGet, NodeGetRequest, Viewer};
use mesh_bus::Bus;
use mesh_types::NodeId;
use mesh_types::fleet::{NodeMode, Sharing};

use super::said::{Event, NodeSeen};

const DEADLINE: Duration = Duration::from_secs(2);
const KEPT_MAX: usize = 100_000;

#[derive(Default)]
pub(super) struct Nodes {
    known: HashMap<NodeId, NodeSeen>,
}

impl Nodes {
    /// Who sees an event of a node; `None` when nothing is known of the node, or the event is of none.
    pub(super) async fn seen(&mut self, bus: &Bus, event: &Event) -> Option<NodeSeen> {
        let node = event.node()?;
        let is_changed = !matches!(event.kind.as_str(), "node.came.v1" | "node.lost.v1");
        if is_changed || !self.known.contains_key(&node) {
            self.look(bus, event, &node).await;
        }
        let mut seen = self.known.get(&node).cloned().or_else(|| by_event(event))?;
        // As it was when it happened.
        if let Some(said) = by_event(event) {
            (seen.owner, seen.mode) = (said.owner, said.mode);
        }
        Some(seen)
    }

    async fn look(&mut self, bus: &Bus, event: &Event, node: &NodeId) {
        let caller = Caller::service("gateway", event.tenant.clone());
        let request = NodeGetRequest {
            viewer: Viewer::default(),
            node_id: node.clone(),
        };
        if self.known.len() >= KEPT_MAX {
            self.known.clear();
        }
        match bus.call_within::<NodeGet>(&caller, &request, DEADLINE).await {
            Ok(entry) => {
                let seen = NodeSeen {
                    tenant: entry.tenant,
                    owner: entry.owner,
                    mode: entry.configuration.mode,
                    sharing: entry.configuration.sharing,
                };
                self.known.insert(node.clone(), seen);
            }
            // Forgotten, or the registry is away: what was known stays, else the event itself says.
            Err(problem) => tracing::debug!(%problem, %node, "nothing is known of a node that an event is of"),
        }
    }
}

/// As the event itself says: to nobody but the owner.
fn by_event(event: &Event) -> Option<NodeSeen> {
    let owner = event.data.get("owner")?.as_str()?.to_owned();
    let mode: NodeMode = serde_json::from_value(event.data.get("mode")?.clone()).ok()?;
    Some(NodeSeen {
        tenant: event.tenant.clone(),
        owner,
        mode,
        sharing: Sharing {
            users: vec![String::new()],
            ..Sharing::default()
        },
    })
}
