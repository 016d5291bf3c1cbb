//! Who sees a node, whom it serves, who may change it and speak to it. Pure: every service asks here and decides nothing
//! of this on its own. A node of another owner that is private or asleep does not exist for anybody else.

use crate::fleet::{NodeMode, Sharing};
use crate::name::{AgentName, Tenant};

/// Owner of what nobody signed in for, in development mode.
pub const DEVELOPER: &str = "dev";

/// Who asks. Owners are names within a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Viewer<'a> {
    pub tenant: &'a Tenant,
    /// `None`: nobody is signed in (development mode), who owns all nodes of the tenant.
    pub owner: Option<&'a str>,
}

/// What of a node decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeFacts<'a> {
    pub tenant: &'a Tenant,
    pub owner: &'a str,
    pub mode: NodeMode,
    pub sharing: &'a Sharing,
}

/// What of an agent decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentFacts<'a> {
    pub tenant: &'a Tenant,
    pub name: &'a AgentName,
    /// Who published it; `None` in development mode.
    pub owner: Option<&'a str>,
}

/// Own nodes in all modes; others' only when shared, and with this tenant and user.
pub fn sees(viewer: Viewer<'_>, node: NodeFacts<'_>) -> bool {
    owns(viewer, node) || is_shared_with(viewer, node)
}

/// The owner, in all modes. Whoever only sees it may not.
pub fn may_configure(viewer: Viewer<'_>, node: NodeFacts<'_>) -> bool {
    owns(viewer, node)
}

/// The owner in all modes; others as its sharing lets them in while it is shared.
pub fn may_tunnel(viewer: Viewer<'_>, node: NodeFacts<'_>) -> bool {
    owns(viewer, node) || is_shared_with(viewer, node)
}

/// Whether the node may run this agent; if not, why, as the end of "it does not run there because …".
pub fn serves(node: NodeFacts<'_>, agent: AgentFacts<'_>) -> Result<(), &'static str> {
    let publisher = agent.owner.unwrap_or(DEVELOPER);
    let is_own = agent.tenant == node.tenant && publisher == node.owner;
    match node.mode {
        NodeMode::Sleep => Err("the node sleeps"),
        _ if is_own => Ok(()),
        NodeMode::Private => Err("the node is private to another owner"),
        NodeMode::Shared if !lets_tenant(node, agent.tenant) => Err("the node is not shared with the agent's tenant"),
        NodeMode::Shared if !lets_user(node.sharing, publisher) => Err("the node is not shared with the agent's owner"),
        NodeMode::Shared if !lets_agent(node.sharing, agent.name) => Err("the node is not shared with this agent"),
        NodeMode::Shared => Ok(()),
    }
}

fn owns(viewer: Viewer<'_>, node: NodeFacts<'_>) -> bool {
    viewer.tenant == node.tenant && viewer.owner.is_none_or(|owner| owner == node.owner)
}

fn is_shared_with(viewer: Viewer<'_>, node: NodeFacts<'_>) -> bool {
    node.mode == NodeMode::Shared
        && lets_tenant(node, viewer.tenant)
        && lets_user(node.sharing, viewer.owner.unwrap_or(DEVELOPER))
}

fn lets_tenant(node: NodeFacts<'_>, tenant: &Tenant) -> bool {
    if node.sharing.tenants.is_empty() {
        tenant == node.tenant
    } else {
        node.sharing.tenants.contains(tenant)
    }
}

fn lets_user(sharing: &Sharing, user: &str) -> bool {
    sharing.users.is_empty() || sharing.users.iter().any(|one| one == user)
}

fn lets_agent(sharing: &Sharing, agent: &AgentName) -> bool {
    sharing.agents.is_empty() || sharing.agents.contains(agent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tenant(name: &str) -> Tenant {
        name.parse().unwrap()
    }

    /// Tenants and owners of two names each, so that every relation between viewer and node comes up.
    fn tenants() -> impl Strategy<Value = Tenant> {
        prop::sample::select(vec![tenant("daarion"), tenant("other")])
    }

    fn users() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["ann", "bob", DEVELOPER])
    }

    fn modes() -> impl Strategy<Value = NodeMode> {
        prop::sample::select(vec![NodeMode::Private, NodeMode::Shared, NodeMode::Sleep])
    }

    fn sharings() -> impl Strategy<Value = Sharing> {
        let agents = prop::sample::select(vec!["sofia", "clara"]).prop_map(|name| name.parse().unwrap());
        (
            prop::collection::vec(tenants(), 0..3),
            prop::collection::vec(users().prop_map(str::to_owned), 0..3),
            prop::collection::vec(agents, 0..2),
        )
            .prop_map(|(tenants, users, agents)| Sharing {
                tenants,
                users,
                agents,
                invocations_max: None,
            })
    }

    prop_compose! {
        fn nodes()(tenant in tenants(), owner in users(), mode in modes(), sharing in sharings())
            -> (Tenant, &'static str, NodeMode, Sharing) {
            (tenant, owner, mode, sharing)
        }
    }

    fn facts<'a>(node: &'a (Tenant, &'static str, NodeMode, Sharing)) -> NodeFacts<'a> {
        NodeFacts {
            tenant: &node.0,
            owner: node.1,
            mode: node.2,
            sharing: &node.3,
        }
    }

    proptest! {
        #[test]
        fn nobody_sees_or_touches_what_others_have_private_or_asleep(
            node in nodes(), tenant in tenants(), owner in users(),
        ) {
            let (node, viewer) = (facts(&node), Viewer { tenant: &tenant, owner: Some(owner) });
            let is_own = tenant == *node.tenant && owner == node.owner;
            prop_assume!(!is_own);
            prop_assert!(!may_configure(viewer, node));
            if node.mode != NodeMode::Shared {
                prop_assert!(!sees(viewer, node));
                prop_assert!(!may_tunnel(viewer, node));
            }
        }

        #[test]
        fn owners_see_and_change_their_own_in_every_mode(node in nodes()) {
            let node = facts(&node);
            for owner in [Some(node.owner), None] {
                let viewer = Viewer { tenant: node.tenant, owner };
                prop_assert!(sees(viewer, node) && may_configure(viewer, node) && may_tunnel(viewer, node));
            }
        }

        #[test]
        fn whoever_may_tunnel_or_configure_also_sees(node in nodes(), tenant in tenants(), owner in prop::option::of(users())) {
            let (node, viewer) = (facts(&node), Viewer { tenant: &tenant, owner });
            prop_assert!(sees(viewer, node) || !(may_tunnel(viewer, node) || may_configure(viewer, node)));
        }

        #[test]
        fn another_tenant_is_let_in_only_by_name(node in nodes(), tenant in tenants(), owner in prop::option::of(users())) {
            prop_assume!(tenant != node.0);
            let facts = facts(&node);
            let named = facts.mode == NodeMode::Shared && facts.sharing.tenants.contains(&tenant);
            let agent = "sofia".parse().unwrap();
            let is_seen = sees(Viewer { tenant: &tenant, owner }, facts);
            let runs = serves(facts, AgentFacts { tenant: &tenant, name: &agent, owner }).is_ok();
            prop_assert!(named || !(is_seen || runs));
        }

        #[test]
        fn sleep_takes_no_work_and_private_only_its_owners(
            node in nodes(), tenant in tenants(), owner in prop::option::of(users()),
        ) {
            let facts = facts(&node);
            let agent = "sofia".parse().unwrap();
            let runs = serves(facts, AgentFacts { tenant: &tenant, name: &agent, owner }).is_ok();
            let is_own = tenant == *facts.tenant && owner.unwrap_or(DEVELOPER) == facts.owner;
            match facts.mode {
                NodeMode::Sleep => prop_assert!(!runs),
                NodeMode::Private => prop_assert_eq!(runs, is_own),
                NodeMode::Shared => prop_assert!(runs || !is_own),
            }
        }
    }

    #[test]
    fn sharing_is_a_table_of_tenants_users_and_agents() {
        let (home, away, agent) = (tenant("daarion"), tenant("other"), "sofia".parse().unwrap());
        let sharing = |tenants: &[&Tenant], users: &[&str], agents: &[&AgentName]| Sharing {
            tenants: tenants.iter().map(|one| (*one).clone()).collect(),
            users: users.iter().map(|one| (*one).to_owned()).collect(),
            agents: agents.iter().map(|one| (*one).clone()).collect(),
            invocations_max: None,
        };
        let other_agent: AgentName = "clara".parse().unwrap();
        // Sharing of ann's node in tenant `daarion`; who asks; whether he sees it; whether it runs his agent sofia.
        let cases = [
            (sharing(&[], &[], &[]), &home, Some("bob"), true, true),
            (sharing(&[], &[], &[]), &away, Some("bob"), false, false),
            (sharing(&[&away], &[], &[]), &away, Some("bob"), true, true),
            (sharing(&[&away], &[], &[]), &home, Some("bob"), false, false),
            (sharing(&[], &["bob"], &[]), &home, Some("bob"), true, true),
            (sharing(&[], &["bob"], &[]), &home, Some("eve"), false, false),
            (sharing(&[&away], &["bob"], &[]), &away, Some("eve"), false, false),
            (sharing(&[], &[], &[&other_agent]), &home, Some("bob"), true, false),
            (sharing(&[], &[], &[&agent]), &home, Some("bob"), true, true),
            // Another tenant's owner of the same name is somebody else.
            (sharing(&[], &[], &[]), &away, Some("ann"), false, false),
            // The owner is not bound by it.
            (
                sharing(&[&away], &["bob"], &[&other_agent]),
                &home,
                Some("ann"),
                true,
                true,
            ),
        ];
        for (sharing, tenant, owner, is_seen, runs) in cases {
            let node = NodeFacts {
                tenant: &home,
                owner: "ann",
                mode: NodeMode::Shared,
                sharing: &sharing,
            };
            let who = format!("{owner:?} of {tenant} at {sharing:?}");
            assert_eq!(sees(Viewer { tenant, owner }, node), is_seen, "{who}");
            let name = &agent;
            assert_eq!(serves(node, AgentFacts { tenant, name, owner }).is_ok(), runs, "{who}");
        }
    }
}
