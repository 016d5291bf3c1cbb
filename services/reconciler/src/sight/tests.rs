//! Each kind of action, as another owner reads it.

use std::collections::BTreeMap;

use mesh_api::fleet::NodeConfiguration;
use mesh_api::reconciler::ActionResult;
use mesh_types::fleet::NodeMode;
use mesh_types::{Tenant, Timestamp};

use super::*;

fn node(id: &str, name: &str, owner: &str, mode: NodeMode) -> NodeEntry {
    let at = Timestamp::from_millis(0);
    NodeEntry {
        node_id: id.parse().unwrap(),
        tenant: Tenant::default(),
        owner: owner.to_owned(),
        name: name.to_owned(),
        configuration: NodeConfiguration {
            mode,
            ..NodeConfiguration::default()
        },
        labels: BTreeMap::new(),
        capabilities: Vec::new(),
        slots: 1,
        drained: false,
        registered_at: at,
        updated_at: at,
    }
}

/// Ann's two private nodes, one that she shares, and one of bob's.
fn sight(actor: &str) -> Sight {
    let caller = Caller {
        role: None,
        tenant: Tenant::default(),
        actor: actor.into(),
        request_id: None,
    };
    let nodes = [
        node("n-attic", "attic", "ann", NodeMode::Private),
        node("n-cellar", "cellar: deep", "ann", NodeMode::Private),
        node("n-hall", "hall", "ann", NodeMode::Shared),
        node("n-shed", "shed", "bob", NodeMode::Private),
    ];
    Sight::of(&caller, &nodes)
}

fn action(kind: ActionKind, from: Option<&str>, to: Option<&str>, what: &str, because: &str) -> Action {
    Action {
        kind,
        tenant: Some(Tenant::default()),
        agent: Some("sofia".parse().unwrap()),
        version: Some(3),
        replica: None,
        from: from.map(|node| node.parse().unwrap()),
        to: to.map(|node| node.parse().unwrap()),
        because: because.to_owned(),
        sentence: format!("{what} because {because}"),
        result: ActionResult::Planned,
        next_try_at: None,
    }
}

/// What is told of a node of ann's, and what another owner reads.
struct Case {
    told: Action,
    read: &'static str,
}

fn case(
    kind: ActionKind,
    (from, to): (Option<&str>, Option<&str>),
    what: &str,
    because: &str,
    read: &'static str,
) -> Case {
    let told = action(kind, from, to, what, because);
    Case { told, read }
}

const ATTIC: Option<&str> = Some("n-attic");

fn moves() -> [Case; 7] {
    use ActionKind::{Place, Remove, Stop};
    [
        case(
            Place,
            (None, ATTIC),
            "place sofia v3 on attic",
            "1 replica is wanted and 0 there",
            "place sofia v3 on a node of somebody else because 1 replica is wanted and 0 there",
        ),
        case(
            Place,
            (Some("n-cellar"), Some("n-hall")),
            "place sofia v3 on hall in place of cellar: deep",
            "cellar: deep has been silent for 14 s (limit 10 s)",
            "place sofia v3 on hall in place of a node of somebody else because a node of somebody else has been silent \
             for 14 s (limit 10 s)",
        ),
        case(
            Place,
            (Some("n-shed"), ATTIC),
            "place sofia v3 on attic in place of shed",
            "shed is drained",
            "place sofia v3 on a node of somebody else in place of shed because shed is drained",
        ),
        case(
            Stop,
            (ATTIC, None),
            "stop sofia v3 on attic",
            "v4 takes its place",
            "stop sofia v3 on a node of somebody else because v4 takes its place",
        ),
        case(
            Stop,
            (ATTIC, None),
            "stop sofia v3 on attic",
            "it failed on attic: no /home/ann/attic",
            "stop sofia v3 on a node of somebody else because it failed on a node of somebody else",
        ),
        // Of a name that it had then and has no more.
        case(
            Remove,
            (ATTIC, None),
            "remove sofia v3 from loft",
            "loft was never seen",
            "remove sofia v3 from a node of somebody else because a node of somebody else was never seen",
        ),
        case(
            Remove,
            (Some("n-gone"), None),
            "remove sofia v3 from n-gone",
            "n-gone is forgotten",
            "remove sofia v3 from an unknown node because an unknown node is forgotten",
        ),
    ]
}

fn reasons() -> [Case; 4] {
    use ActionKind::{RollBack, Serve};
    const BACK: &str = "roll sofia back from v4 to v3";
    let nowhere = (None, None);
    [
        case(
            Serve,
            nowhere,
            "send new invocations of sofia to v3",
            "its first replica is ready on attic",
            "send new invocations of sofia to v3 because its first replica is ready on a node of somebody else",
        ),
        case(
            RollBack,
            nowhere,
            BACK,
            "it failed on cellar: deep: no such file",
            "roll sofia back from v4 to v3 because it failed on a node of somebody else",
        ),
        case(
            RollBack,
            nowhere,
            BACK,
            "it was not ready on n-attic within 60 s",
            "roll sofia back from v4 to v3 because it was not ready on a node of somebody else within 60 s",
        ),
        case(
            RollBack,
            nowhere,
            BACK,
            "a reason that nobody knows: attic",
            "roll sofia back from v4 to v3 because of an unknown node",
        ),
    ]
}

#[test]
fn others_read_what_happens_and_not_where() {
    for Case { told, read } in moves().into_iter().chain(reasons()) {
        let mut covered = told.clone();
        sight("user:bob").cover(&mut covered);
        assert_eq!(covered.sentence, read);
        assert!(read.ends_with(&covered.because), "{covered:?}");
        let text = serde_json::to_string(&covered).unwrap();
        let hidden = ["attic", "cellar", "loft", "gone"];
        assert!(hidden.iter().all(|name| !text.contains(name)), "{text}");
        // Whoever is not signed in, in development mode, owns them all.
        let mut all = told.clone();
        sight("dev").cover(&mut all);
        assert_eq!(all, told);
    }
}

#[test]
fn a_name_that_a_hidden_node_has_too_is_hidden() {
    let caller = Caller {
        role: None,
        tenant: Tenant::default(),
        actor: "user:bob".into(),
        request_id: None,
    };
    let because = "its first replica is ready on loft";
    let what = "send new invocations of sofia to v3";
    let own = node("n-own", "loft", "bob", NodeMode::Private);
    let other = node("n-other", "loft", "ann", NodeMode::Private);
    for (nodes, is_shown) in [(vec![own.clone()], true), (vec![own, other], false)] {
        let mut serve = action(ActionKind::Serve, None, None, what, because);
        Sight::of(&caller, &nodes).cover(&mut serve);
        assert_eq!(serve.because == because, is_shown, "{}", serve.sentence);
    }
}

#[test]
fn admins_are_owners_like_all_others_to_the_policy() {
    let id = |node: &str| node.parse::<NodeId>().unwrap();
    for (actor, attic, hall, shed) in [
        ("user:admin", false, true, false),
        ("user:ann", true, true, false),
        ("node:n-attic", false, true, false),
        ("dev", true, true, true),
    ] {
        let sight = sight(actor);
        let seen = ["n-attic", "n-hall", "n-shed"].map(|node| sight.sees(&id(node)));
        assert_eq!(seen, [attic, hall, shed], "{actor}");
    }
}
