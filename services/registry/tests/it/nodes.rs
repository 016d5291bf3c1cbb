//! Nodes: registered, configured, seen by whom they may be, drained, forgotten.

use mesh_api::fleet::{
    NodeAll, NodeConfiguration, NodeConfigure, NodeConfigureRequest, NodeDrain, NodeDrainRequest, NodeEntry,
    NodeForget, NodeGet, NodeGetRequest, NodeList, NodeListRequest, NodeRegister, NodeRegisterRequest,
    NodeReportedMode, NodeReportedModeRequest, Viewer,
};
use mesh_api::node::Bell;
use mesh_api::{Caller, PageQuery};
use mesh_types::event::{Event, Fact};
use mesh_types::fleet::{NodeMode, Sharing};
use mesh_types::subject::Filter;
use mesh_types::{Code, Problem, Subject};
use serde_json::json;

use crate::setup::{Mesh, SOON, tenant};

pub(crate) fn registration(id: Option<&str>, owner: &str) -> NodeRegisterRequest {
    let mut request: NodeRegisterRequest = serde_json::from_value(json!({"owner": owner})).unwrap();
    request.node_id = id.map(|id| id.parse().unwrap());
    request
}

fn viewer(owner: &str) -> Viewer {
    Viewer {
        owner: Some(owner.to_owned()),
    }
}

fn of(viewer: Viewer, id: &str) -> NodeGetRequest {
    NodeGetRequest {
        viewer,
        node_id: id.parse().unwrap(),
    }
}

fn configured(viewer: Viewer, id: &str, mode: NodeMode, sharing: Sharing) -> NodeConfigureRequest {
    NodeConfigureRequest {
        viewer,
        node_id: id.parse().unwrap(),
        configuration: NodeConfiguration {
            mode,
            sharing,
            billable_account_uid: Some("acc-1".into()),
            ..NodeConfiguration::default()
        },
        labels: None,
    }
}

fn report(id: &str, incarnation: u64, seq: u64, mode: NodeMode) -> NodeReportedModeRequest {
    NodeReportedModeRequest {
        node_id: id.parse().unwrap(),
        mode,
        incarnation,
        seq,
    }
}

impl Mesh {
    async fn register(&self, id: &str, owner: &str) -> NodeEntry {
        self.call::<NodeRegister>(registration(Some(id), owner)).await.unwrap()
    }

    async fn seen_by(&self, tenant: &str, viewer: Viewer) -> Vec<String> {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = PageQuery { limit: Some(2), after };
            let request = NodeListRequest {
                viewer: viewer.clone(),
                page,
            };
            let page = self.call_as::<NodeList>(tenant, request).await.unwrap();
            seen.extend(page.items.into_iter().map(|entry| entry.node_id.to_string()));
            after = page.next;
            if after.is_none() {
                return seen;
            }
        }
    }
}

#[tokio::test]
async fn a_node_is_given_an_id_or_keeps_its_own_and_renews_only_what_it_says() {
    let mesh = Mesh::start().await;
    let minted = mesh.call::<NodeRegister>(registration(None, "ann")).await.unwrap();
    let ulid = minted.node_id.as_str().strip_prefix("nod_").unwrap();
    assert_eq!(ulid.len(), 26);
    assert_eq!(minted.configuration.node_uid.as_ref(), Some(&minted.node_id));

    let first = mesh.register("Kitchen_1-x", "ann").await;
    assert_eq!(first.node_id.as_str(), "Kitchen_1-x");
    assert_eq!((first.owner.as_str(), first.tenant.as_str()), ("ann", "default"));
    assert_eq!(mesh.register("Kitchen_1-x", "ann").await, first);
    let renewal = NodeRegisterRequest {
        slots: Some(4),
        labels: Some([("region".to_owned(), "eu".to_owned())].into()),
        ..registration(Some("Kitchen_1-x"), "ann")
    };
    let second = mesh.call::<NodeRegister>(renewal).await.unwrap();
    assert_eq!((second.slots, second.labels["region"].as_str()), (4, "eu"));
    assert_eq!(second.registered_at, first.registered_at);
    let read = mesh.call::<NodeGet>(of(viewer("ann"), "Kitchen_1-x")).await.unwrap();
    assert_eq!(read, second);
}

#[tokio::test]
async fn an_id_is_one_owners_also_across_tenants_and_also_when_many_come_at_once() {
    let mesh = Mesh::start().await;
    mesh.register("kitchen", "ann").await;
    for (tenant, owner) in [("default", "bob"), ("daarion", "ann"), ("daarion", "bob")] {
        let problem = mesh
            .call_as::<NodeRegister>(tenant, registration(Some("kitchen"), owner))
            .await
            .unwrap_err();
        assert!(problem.is(Code::Forbidden), "{owner} of {tenant}: {problem:?}");
    }
    let who = (0..16).map(|number| {
        (
            ["default", "daarion"][number % 2],
            ["ann", "bob", "eve", "joe"][number / 2 % 4],
        )
    });
    let results = futures::future::join_all(who.map(|(tenant, owner)| {
        let mesh = &mesh;
        async move {
            let request = registration(Some("cellar"), owner);
            mesh.call_as::<NodeRegister>(tenant, request).await
        }
    }))
    .await;
    let (taken, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    let owners: std::collections::BTreeSet<_> = taken
        .into_iter()
        .map(|entry| entry.map(|entry| (entry.tenant, entry.owner)).unwrap())
        .collect();
    assert_eq!(owners.len(), 1, "{owners:?}");
    assert!(!refused.is_empty());
    for problem in refused {
        assert!(problem.unwrap_err().is(Code::Forbidden));
    }
}

#[tokio::test]
async fn others_see_a_node_only_while_it_is_shared_with_them() {
    let mesh = Mesh::start().await;
    for (id, owner) in [
        ("a-private", "ann"),
        ("b-shared", "ann"),
        ("c-sleep", "ann"),
        ("d-bobs", "bob"),
    ] {
        mesh.register(id, owner).await;
    }
    let abroad = Sharing {
        tenants: vec![tenant("default"), tenant("daarion")],
        users: vec!["bob".into(), "joe".into()],
        ..Sharing::default()
    };
    for (id, mode) in [("b-shared", NodeMode::Shared), ("c-sleep", NodeMode::Sleep)] {
        let request = configured(viewer("ann"), id, mode, abroad.clone());
        mesh.call::<NodeConfigure>(request).await.unwrap();
    }
    let all = ["a-private", "b-shared", "c-sleep", "d-bobs"];
    let cases: [(&str, Viewer, &[&str]); 7] = [
        ("default", viewer("ann"), &all[..3]),
        ("default", viewer("bob"), &["b-shared", "d-bobs"]),
        ("default", viewer("eve"), &[]),
        ("default", Viewer::default(), &all),
        ("daarion", viewer("joe"), &["b-shared"]),
        ("daarion", viewer("ann"), &[]),
        ("daarion", Viewer::default(), &[]),
    ];
    for (tenant, viewer, seen) in cases {
        assert_eq!(
            mesh.seen_by(tenant, viewer.clone()).await,
            seen,
            "{viewer:?} of {tenant}"
        );
        for id in all {
            let read = mesh.call_as::<NodeGet>(tenant, of(viewer.clone(), id)).await;
            match read {
                Ok(entry) => assert!(seen.contains(&id), "{viewer:?} of {tenant} read {entry:?}"),
                Err(problem) => {
                    assert!(problem.is(Code::NodeNotFound) && !seen.contains(&id), "{problem:?}");
                }
            }
        }
    }
    // Shared no more, gone at once.
    let request = configured(viewer("ann"), "b-shared", NodeMode::Private, abroad);
    mesh.call::<NodeConfigure>(request).await.unwrap();
    assert_eq!(mesh.seen_by("daarion", viewer("joe")).await, Vec::<String>::new());
}

#[tokio::test]
async fn only_the_owner_changes_a_node_and_strangers_learn_nothing() {
    let mesh = Mesh::start().await;
    mesh.register("kitchen", "ann").await;
    let share = configured(viewer("ann"), "kitchen", NodeMode::Shared, Sharing::default());
    let shared = mesh.call::<NodeConfigure>(share).await.unwrap();
    assert_eq!(shared.configuration.billable_account_uid.as_deref(), Some("acc-1"));
    let refusals = |id: &'static str, who: Viewer, tenant: &'static str| {
        let mesh = &mesh;
        async move {
            let drain = NodeDrainRequest {
                viewer: who.clone(),
                node_id: id.parse().unwrap(),
                drained: true,
            };
            let configure = configured(who.clone(), id, NodeMode::Sleep, Sharing::default());
            let problems: [Problem; 3] = [
                mesh.call_as::<NodeConfigure>(tenant, configure).await.unwrap_err(),
                mesh.call_as::<NodeDrain>(tenant, drain).await.unwrap_err(),
                mesh.call_as::<NodeForget>(tenant, of(who, id)).await.unwrap_err(),
            ];
            problems
        }
    };
    for problem in refusals("kitchen", viewer("bob"), "default").await {
        assert!(problem.is(Code::Forbidden), "{problem:?}");
        let unknown = refusals("unknown", viewer("bob"), "default").await;
        assert_eq!(problem.detail.replace("kitchen", "unknown"), unknown[0].detail);
    }
    for problem in refusals("kitchen", viewer("ann"), "daarion").await {
        assert!(problem.is(Code::Forbidden), "{problem:?}");
    }
    for problem in refusals("unknown", Viewer::default(), "default").await {
        assert!(problem.is(Code::NodeNotFound), "{problem:?}");
    }
    let read = mesh.call::<NodeGet>(of(viewer("ann"), "kitchen")).await.unwrap();
    assert_eq!(read, shared);

    let mut foreign = configured(viewer("ann"), "kitchen", NodeMode::Sleep, Sharing::default());
    foreign.configuration.node_uid = Some("cellar".parse().unwrap());
    let problem = mesh.call::<NodeConfigure>(foreign).await.unwrap_err();
    assert_eq!(problem.field.as_deref(), Some("node_uid"));
}

#[tokio::test]
async fn a_reported_mode_replaces_the_registered_one_unless_it_is_old() {
    let mesh = Mesh::start().await;
    mesh.call_as::<NodeRegister>("daarion", registration(Some("kitchen"), "ann"))
        .await
        .unwrap();
    let reports = [
        (2, 5, NodeMode::Shared, NodeMode::Shared),
        (2, 4, NodeMode::Sleep, NodeMode::Shared),
        (1, 9, NodeMode::Sleep, NodeMode::Shared),
        (2, 5, NodeMode::Sleep, NodeMode::Shared),
        (3, 1, NodeMode::Private, NodeMode::Private),
        (2, 6, NodeMode::Sleep, NodeMode::Private),
    ];
    for (incarnation, seq, said, holds) in reports {
        // A service does not know the tenant of a node that it hears.
        let entry = mesh
            .call::<NodeReportedMode>(report("kitchen", incarnation, seq, said))
            .await
            .unwrap();
        assert_eq!(entry.configuration.mode, holds, "{incarnation}.{seq}");
        assert_eq!(entry.tenant, tenant("daarion"));
    }
    let problem = mesh
        .call::<NodeReportedMode>(report("unknown", 1, 1, NodeMode::Sleep))
        .await
        .unwrap_err();
    assert!(problem.is(Code::NodeNotFound));
    let problem = mesh
        .call::<NodeReportedMode>(report("kitchen", 1, u64::MAX, NodeMode::Sleep))
        .await
        .unwrap_err();
    assert_eq!((problem.status, problem.field.as_deref()), (400, Some("seq")));
}

#[tokio::test]
async fn reports_that_come_at_once_leave_the_newest() {
    let mesh = Mesh::start().await;
    mesh.register("kitchen", "ann").await;
    let modes = [NodeMode::Private, NodeMode::Shared, NodeMode::Sleep];
    let reports = (1..=24_usize).map(|seq| {
        let mode = modes[seq % 3];
        mesh.call::<NodeReportedMode>(report("kitchen", 1, seq as u64, mode))
    });
    for reported in futures::future::join_all(reports).await {
        reported.unwrap();
    }
    let read = mesh.call::<NodeGet>(of(viewer("ann"), "kitchen")).await.unwrap();
    assert_eq!(read.configuration.mode, modes[24 % 3]);
}

#[tokio::test]
async fn a_service_reads_the_whole_fleet_page_by_page() {
    let mesh = Mesh::start().await;
    for number in 0..7 {
        let tenant = ["default", "daarion"][number % 2];
        let request = registration(Some(&format!("node-{number}")), "ann");
        mesh.call_as::<NodeRegister>(tenant, request).await.unwrap();
    }
    let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = mesh.call::<NodeAll>(PageQuery { limit: Some(3), after }).await.unwrap();
        found.extend(page.items.into_iter().map(|entry| entry.node_id.to_string()));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let wanted: Vec<String> = (0..7).map(|number| format!("node-{number}")).collect();
    assert_eq!((found, pages), (wanted, 3));
    let service = Caller::service("heartbeat", tenant("default"));
    let read = mesh
        .bus
        .call::<NodeGet>(&service, &of(Viewer::default(), "node-1"))
        .await
        .unwrap();
    assert_eq!(read.tenant, tenant("daarion"));
}

#[tokio::test]
async fn a_node_is_rung_when_somebody_else_configured_it() {
    let mesh = Mesh::start().await;
    mesh.register("kitchen", "ann").await;
    let bell = Subject::Bell {
        node: "kitchen".parse().unwrap(),
    };
    let mut bells = mesh.bus.subscribe(&Filter::Only(bell)).await.unwrap();
    mesh.bus.flush().await.unwrap();
    let itself = Caller {
        tenant: tenant("default"),
        actor: "node:kitchen".into(),
        request_id: None,
    };
    let sleep = configured(viewer("ann"), "kitchen", NodeMode::Sleep, Sharing::default());
    mesh.bus.call::<NodeConfigure>(&itself, &sleep).await.unwrap();
    mesh.call::<NodeConfigure>(sleep).await.unwrap();
    // Neither its own change nor one that changes nothing rings: this is the first that does.
    let share = configured(viewer("ann"), "kitchen", NodeMode::Shared, Sharing::default());
    mesh.call::<NodeConfigure>(share).await.unwrap();
    let message = tokio::time::timeout(SOON, bells.next()).await.unwrap().unwrap();
    let bell: Bell = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(bell.owner, "registry");
    mesh.call::<NodeConfigure>(configured(
        viewer("ann"),
        "kitchen",
        NodeMode::Private,
        Sharing::default(),
    ))
    .await
    .unwrap();
    let mut rung = 0;
    while let Ok(Some(_)) = tokio::time::timeout(std::time::Duration::from_millis(300), bells.next()).await {
        rung += 1;
    }
    assert_eq!(rung, 1, "one bell for each change of somebody else");
}

/// 60 nodes of nearly 100 KiB do not fit into one message of the server.
#[tokio::test]
async fn a_list_of_large_nodes_is_cut_to_what_a_reply_carries() {
    let mesh = Mesh::start().await;
    for number in 0..60 {
        let request = NodeRegisterRequest {
            capabilities: Some((0..128).map(|one| format!("{one:0>256}")).collect()),
            labels: Some((0..64).map(|key| (format!("{key:0>64}"), "я".repeat(128))).collect()),
            ..registration(Some(&format!("node-{number:02}")), "ann")
        };
        mesh.call::<NodeRegister>(request).await.unwrap();
        let sharing = Sharing {
            users: (0..200).map(|one| format!("{one:0>64}")).collect(),
            tenants: (0..200).map(|one| tenant(&format!("{one:0>64}"))).collect(),
            agents: (0..200).map(|one| format!("{one:0>64}").parse().unwrap()).collect(),
            invocations_max: None,
        };
        let id = format!("node-{number:02}");
        mesh.call::<NodeConfigure>(configured(viewer("ann"), &id, NodeMode::Private, sharing))
            .await
            .unwrap();
    }
    let (mut count, mut after, mut pages) = (0, None, 0);
    loop {
        let page = PageQuery {
            limit: Some(500),
            after,
        };
        let page = mesh.call::<NodeAll>(page).await.unwrap();
        count += page.items.len();
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(count, 60);
    assert!(pages >= 2, "{pages}");
}

#[tokio::test]
async fn every_change_of_a_node_is_told_once() {
    let mesh = Mesh::start().await;
    let mut events = mesh.bus.subscribe(&Filter::EventsOf(tenant("default"))).await.unwrap();
    mesh.bus.flush().await.unwrap();
    let drain = |drained| NodeDrainRequest {
        viewer: viewer("ann"),
        node_id: "kitchen".parse().unwrap(),
        drained,
    };
    for _ in 0..2 {
        mesh.register("kitchen", "ann").await;
    }
    for _ in 0..2 {
        let share = configured(viewer("ann"), "kitchen", NodeMode::Shared, Sharing::default());
        mesh.call::<NodeConfigure>(share).await.unwrap();
    }
    for drained in [true, true, false] {
        let entry = mesh.call::<NodeDrain>(drain(drained)).await.unwrap();
        assert_eq!(entry.drained, drained);
    }
    for seq in 1..4 {
        let sleep = report("kitchen", 1, seq, NodeMode::Sleep);
        mesh.call::<NodeReportedMode>(sleep).await.unwrap();
    }
    mesh.call::<NodeForget>(of(viewer("ann"), "kitchen")).await.unwrap();
    let problem = mesh
        .call::<NodeForget>(of(Viewer::default(), "kitchen"))
        .await
        .unwrap_err();
    assert!(problem.is(Code::NodeNotFound));

    let (node, owner) = (|| "kitchen".parse().unwrap(), || "ann".to_owned());
    let updated = |mode| Fact::NodeUpdated {
        node: node(),
        owner: owner(),
        mode,
    };
    let wanted = [
        (
            "user:ann",
            Fact::TenantCreated {
                name: tenant("default"),
            },
        ),
        (
            "user:ann",
            Fact::NodeRegistered {
                node: node(),
                owner: owner(),
                mode: NodeMode::Private,
            },
        ),
        ("user:ann", updated(NodeMode::Shared)),
        ("user:ann", updated(NodeMode::Shared)),
        ("user:ann", updated(NodeMode::Shared)),
        ("node:kitchen", updated(NodeMode::Sleep)),
        (
            "user:ann",
            Fact::NodeForgotten {
                node: node(),
                owner: owner(),
                mode: NodeMode::Sleep,
            },
        ),
    ];
    for (actor, fact) in wanted {
        let message = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap();
        let event: Event = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!((event.actor.as_str(), event.fact), (actor, fact));
    }
    // A forgotten id is free again, also for somebody else.
    mesh.register("kitchen", "bob").await;
}
