//! What is said of a node, by whom, and what is told of it.

use mesh_api::Caller;
use mesh_api::fleet::{
    NodeConfigure, NodeDrain, NodeDrainRequest, NodeForget, NodeGet, NodeRegister, NodeRegisterRequest,
    NodeReportedMode, Viewer,
};
use mesh_api::node::Bell;
use mesh_types::event::{Event, Fact};
use mesh_types::fleet::{NodeMode, Sharing};
use mesh_types::subject::Filter;
use mesh_types::{Code, Subject};

use super::{configured, of, registration, report, viewer};
use crate::setup::{Mesh, SOON, tenant};

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
async fn a_node_is_rung_when_somebody_else_configured_it() {
    let mesh = Mesh::start().await;
    mesh.register("kitchen", "ann").await;
    let bell = Subject::Bell {
        node: "kitchen".parse().unwrap(),
    };
    let mut bells = mesh.bus.subscribe(&Filter::Only(bell)).await.unwrap();
    mesh.bus.flush().await.unwrap();
    let itself = Caller {
        role: None,
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
    // What was published before its answer is heard before this.
    let subject = Subject::Bell {
        node: "kitchen".parse().unwrap(),
    };
    mesh.bus
        .publish(&subject, r#"{"owner":"the end"}"#.into())
        .await
        .unwrap();
    let mut owners = Vec::new();
    while owners.last().is_none_or(|owner| owner != "the end") {
        let message = tokio::time::timeout(SOON, bells.next()).await.unwrap().unwrap();
        owners.push(serde_json::from_slice::<Bell>(&message.payload).unwrap().owner);
    }
    assert_eq!(
        owners,
        ["registry", "the end"],
        "one bell for each change of somebody else"
    );
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
