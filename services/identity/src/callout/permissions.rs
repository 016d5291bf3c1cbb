//! What each kind of credential may say and hear on NATS. Everything else is denied.

use mesh_api::identity::{Enroll, Principal, PrincipalKind};
use mesh_api::{Endpoint, Role};
use mesh_types::subject::{Family, Filter};
use mesh_types::{NodeId, Subject, Tenant, Token};

use crate::bus::ADMIN;

/// Subscriptions of one connection.
const SUBSCRIPTIONS_MAX: u32 = 256;
/// Bytes of one message.
const MESSAGE_BYTES_MAX: u32 = 2 * 1024 * 1024;

/// The family of routes that show and start invocations.
const INVOCATIONS: &str = "invocations";
/// The family of the pushes that show what happens.
const LIVE: &str = "live";
/// Says that a key may publish where the body names the tenant. No role has it, but for who runs the installation.
pub(crate) const ROUTER_SCOPE: &str = "router:write";
/// Facts that are not for everybody of a tenant: nodes may be private to their owner, the audit is its owners'.
const PRIVATE_KIND: &str = "node";
const AUDIT_KIND: &str = "audit";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Permissions {
    pub(super) publish: Vec<String>,
    pub(super) subscribe: Vec<String>,
    /// Of what may be heard, what may not.
    pub(super) unheard: Vec<String>,
    pub(super) subscriptions_max: u32,
    pub(super) message_bytes_max: u32,
}

impl Permissions {
    /// A node speaks of itself and hears what is for it; who joins asks one question, at the subject of its own name; a
    /// key does on NATS what it does over HTTP, as far as there is a subject for it.
    pub(super) fn of(principal: &Principal) -> Self {
        let id: NodeId = principal.id.parse().expect("ids of credentials and nodes are tokens");
        let own = Self {
            subscriptions_max: SUBSCRIPTIONS_MAX,
            message_bytes_max: MESSAGE_BYTES_MAX,
            ..Self::default()
        };
        let own = own.hear(Filter::InboxesOf(id.clone()));
        match principal.kind {
            PrincipalKind::Node => own
                .say(Subject::Heartbeat { node: id.clone() })
                .say(Subject::Health { node: id.clone() })
                .say(Filter::NodeAsks(id.clone()))
                .hear(Subject::Bell { node: id.clone() })
                .hear(Subject::Tunnel { node: id }),
            PrincipalKind::JoinToken | PrincipalKind::User => own.say(enroll(id)),
            PrincipalKind::Key => own.say(enroll(id)).of_key(principal),
        }
    }

    fn of_key(mut self, principal: &Principal) -> Self {
        let tenant = &principal.tenant;
        if may(principal, Role::Viewer, INVOCATIONS, "read") {
            self = self
                .hear(Filter::OfTenant(Family::Journal, tenant.clone()))
                .hear(Filter::OfTenant(Family::Token, tenant.clone()));
        }
        if may(principal, Role::Viewer, LIVE, "read") {
            self = self.hears_facts(principal, tenant);
        }
        if may(principal, Role::Service, INVOCATIONS, "write") {
            self = self
                .say(Filter::OfTenant(Family::Invoke, tenant.clone()))
                .say(Filter::OfTenant(Family::Call, tenant.clone()))
                .hear(Filter::OfTenant(Family::Reply, tenant.clone()));
        }
        let is_router = principal.scopes.iter().any(|scope| scope == ROUTER_SCOPE);
        if is_router && covers(principal, Role::Service) {
            self = self.say(Subject::RouterInvoke);
        }
        if is_operator(principal) {
            let own = principal.id.parse().expect("ids of credentials are tokens");
            // `nats server check connection` asks itself.
            self = self.operates().say(Filter::InboxesOf(own));
        }
        self
    }

    fn hears_facts(mut self, principal: &Principal, tenant: &Tenant) -> Self {
        let of_kind = |kind| Filter::EventsOfKind(tenant.clone(), token(kind));
        self = self.hear(Filter::OfTenant(Family::Event, tenant.clone()));
        self.unheard.push(of_kind(PRIVATE_KIND).to_string());
        if !covers(principal, Role::Owner) || !principal.scopes.is_empty() {
            self.unheard.push(of_kind(AUDIT_KIND).to_string());
        }
        self
    }

    /// Who runs the installation looks at its streams, services, nodes and dead letters, and publishes where the body
    /// names the tenant. Writes no fact and no key, deletes nothing.
    fn operates(mut self) -> Self {
        let looks = [
            "INFO",
            "STREAM.NAMES",
            "STREAM.LIST",
            "STREAM.INFO.*",
            "CONSUMER.NAMES.*",
        ]
        .into_iter()
        .chain(["CONSUMER.LIST.*", "CONSUMER.INFO.*.*"])
        .chain([
            "STREAM.MSG.GET.DEAD_LETTERS",
            "DIRECT.GET.DEAD_LETTERS",
            "DIRECT.GET.DEAD_LETTERS.>",
        ]);
        for look in looks {
            self = self.say(format_args!("$JS.API.{look}"));
        }
        self.unheard.clear();
        self.say("$SRV.>")
            .say(Subject::RouterInvoke)
            .hear(Filter::OfTenants(Family::Event))
            .hear(Filter::OfTenants(Family::Dead))
            .hear(Filter::Heartbeats)
            .hear(Filter::HealthReports)
    }

    fn say(mut self, filter: impl ToString) -> Self {
        self.publish.push(filter.to_string());
        self
    }

    fn hear(mut self, filter: impl ToString) -> Self {
        self.subscribe.push(filter.to_string());
        self
    }
}

fn covers(principal: &Principal, least: Role) -> bool {
    principal.role.is_some_and(|role| role.covers(least))
}

/// As over HTTP: the role allows, scopes narrow, and who may write may read.
fn may(principal: &Principal, least: Role, tag: &str, verb: &str) -> bool {
    let allows = |scope: &String| {
        let (of, allowed) = scope.split_once(':').unwrap_or_default();
        of == tag && (allowed == verb || allowed == "write")
    };
    covers(principal, least) && (principal.scopes.is_empty() || principal.scopes.iter().any(allows))
}

/// Runs the installation, not only a tenant: see `Reach::All`.
fn is_operator(principal: &Principal) -> bool {
    principal.owner == ADMIN
        && principal.tenant == Tenant::default()
        && covers(principal, Role::Owner)
        && principal.scopes.is_empty()
}

fn enroll(node: NodeId) -> Subject {
    Subject::NodeService {
        node,
        service: token(Enroll::SERVICE),
        endpoint: token(Enroll::NAME),
    }
}

fn token(text: &str) -> Token {
    text.parse().expect("names of endpoints and kinds are tokens")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(kind: PrincipalKind, id: &str) -> Principal {
        Principal {
            role: None,
            scopes: Vec::new(),
            id: id.into(),
            kind,
            owner: "ann".into(),
            tenant: "daarion".parse().unwrap(),
        }
    }

    fn of(kind: PrincipalKind, id: &str) -> Permissions {
        Permissions::of(&principal(kind, id))
    }

    fn key(role: Role, scopes: &[&str]) -> Permissions {
        Permissions::of(&Principal {
            role: Some(role),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            ..principal(PrincipalKind::Key, "key_1")
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
            ["_INBOX.kitchen.>", "mesh.bell.kitchen", "mesh.tunnel.kitchen"]
        );
    }

    #[test]
    fn who_joins_may_ask_one_thing() {
        for kind in [PrincipalKind::Key, PrincipalKind::JoinToken, PrincipalKind::User] {
            let join = of(kind, "jtk_1");
            assert_eq!(join.publish, ["mesh.node.jtk_1.identity.enroll"]);
            assert_eq!(join.subscribe, ["_INBOX.jtk_1.>"]);
        }
    }

    #[test]
    fn a_key_says_and_hears_what_its_role_and_scopes_allow() {
        let viewer = key(Role::Viewer, &[]);
        assert_eq!(viewer.publish, ["mesh.node.key_1.identity.enroll"]);
        assert!(viewer.subscribe.contains(&"mesh.journal.daarion.>".to_owned()));
        let program = key(Role::Service, &[]);
        assert_eq!(
            program.publish[1..],
            ["mesh.invoke.daarion.>", "mesh.call.daarion.>"],
            "a tenant of its own, and no router"
        );
        assert_eq!(key(Role::Viewer, &["invocations:write"]).publish.len(), 1);
        let narrow = key(Role::Owner, &["memories:read"]);
        assert_eq!((narrow.publish.len(), narrow.subscribe.len()), (1, 1), "{narrow:?}");
        let reads = key(Role::Owner, &["invocations:read"]);
        assert_eq!((reads.publish.len(), reads.subscribe.len()), (1, 3), "{reads:?}");
        let router = key(Role::Service, &[ROUTER_SCOPE]);
        assert_eq!(router.publish[1..], ["router.invoke.agent"]);
        assert_eq!(key(Role::Viewer, &[ROUTER_SCOPE]).publish.len(), 1);
    }

    #[test]
    fn facts_of_private_nodes_and_the_audit_are_not_everybodys() {
        let private = "mesh.event.daarion.node.*.*".to_owned();
        let audit = "mesh.event.daarion.audit.*.*".to_owned();
        assert_eq!(key(Role::Developer, &[]).unheard, [private.clone(), audit.clone()]);
        assert_eq!(key(Role::Owner, &[]).unheard, std::slice::from_ref(&private));
        assert_eq!(key(Role::Owner, &["live:read"]).unheard, [private, audit]);
    }

    #[test]
    fn only_who_runs_the_installation_sees_its_streams() {
        let sees = |owner: &str, tenant: &str, role, scopes: &[&str]| {
            let permissions = Permissions::of(&Principal {
                role: Some(role),
                owner: owner.into(),
                tenant: tenant.parse().unwrap(),
                scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
                ..principal(PrincipalKind::Key, "key_1")
            });
            let [streams, itself] = ["$JS.", "_INBOX.key_1."].map(|start| {
                let mut all = permissions.publish.iter();
                all.any(|subject| subject.starts_with(start))
            });
            assert_eq!(streams, itself, "it asks itself whether the server answers");
            streams
        };
        assert!(sees("admin", "default", Role::Owner, &[]));
        assert!(!sees("admin", "daarion", Role::Owner, &[]));
        assert!(!sees("admin", "default", Role::Developer, &[]));
        assert!(!sees("admin", "default", Role::Owner, &["invocations:write"]));
        assert!(!sees("ann", "default", Role::Owner, &[]));
    }
}
