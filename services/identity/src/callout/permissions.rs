//! What each kind of credential may say and hear on NATS. Everything else is denied.

use mesh_api::Endpoint;
use mesh_api::identity::{Enroll, Principal, PrincipalKind};
use mesh_types::subject::Filter;
use mesh_types::{NodeId, Subject, Token};

/// Subscriptions of one connection.
const SUBSCRIPTIONS_MAX: u32 = 256;
/// Bytes of one message.
const MESSAGE_BYTES_MAX: u32 = 2 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Permissions {
    pub(super) publish: Vec<String>,
    pub(super) subscribe: Vec<String>,
    pub(super) subscriptions_max: u32,
    pub(super) message_bytes_max: u32,
}

impl Permissions {
    /// A node speaks of itself and hears what is for it; who joins asks one question, at the subject of its own name.
    pub(super) fn of(principal: &Principal) -> Self {
        let id: NodeId = principal.id.parse().expect("ids of credentials and nodes are tokens");
        let inbox = Filter::InboxesOf(id.clone()).to_string();
        let (publish, subscribe) = match principal.kind {
            PrincipalKind::Node => (
                vec![
                    Subject::Heartbeat { node: id.clone() }.to_string(),
                    Subject::Health { node: id.clone() }.to_string(),
                    Filter::NodeAsks(id.clone()).to_string(),
                ],
                vec![
                    Subject::Bell { node: id.clone() }.to_string(),
                    Subject::Tunnel { node: id }.to_string(),
                    inbox,
                ],
            ),
            PrincipalKind::Key | PrincipalKind::JoinToken => (vec![enroll(id).to_string()], vec![inbox]),
        };
        Self {
            publish,
            subscribe,
            subscriptions_max: SUBSCRIPTIONS_MAX,
            message_bytes_max: MESSAGE_BYTES_MAX,
        }
    }
}

fn enroll(node: NodeId) -> Subject {
    let token = |text: &str| text.parse::<Token>().expect("endpoint names are tokens");
    Subject::NodeService {
        node,
        service: token(Enroll::SERVICE),
        endpoint: token(Enroll::NAME),
    }
}

#[cfg(test)]
mod tests {
    use mesh_types::Tenant;

    use super::*;

    fn of(kind: PrincipalKind, id: &str) -> Permissions {
        Permissions::of(&Principal {
            id: id.into(),
            kind,
            owner: "ann".into(),
            tenant: Tenant::default(),
        })
    }

    #[test]
    fn a_node_has_its_own_subjects_only() {
        let node = of(PrincipalKind::Node, "kitchen");
        assert_eq!(
            node.publish,
            ["mesh.heartbeat.kitchen", "mesh.health.kitchen", "mesh.node.kitchen.>"]
        );
        assert_eq!(
            node.subscribe,
            ["mesh.bell.kitchen", "mesh.tunnel.kitchen", "_INBOX.kitchen.>"]
        );
    }

    #[test]
    fn who_joins_may_ask_one_thing() {
        for kind in [PrincipalKind::Key, PrincipalKind::JoinToken] {
            let join = of(kind, "jtk_1");
            assert_eq!(join.publish, ["mesh.node.jtk_1.identity.enroll"]);
            assert_eq!(join.subscribe, ["_INBOX.jtk_1.>"]);
        }
    }
}
