//! Whose a node is, who sees it, who changes it.

use mesh_api::fleet::{NodeConfigure, NodeDrain, NodeDrainRequest, NodeForget, NodeGet, NodeRegister, Viewer};
use mesh_types::fleet::{NodeMode, Sharing};
use mesh_types::{Code, Problem};

use super::{configured, of, registration, viewer};
use crate::setup::{Mesh, tenant};

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
