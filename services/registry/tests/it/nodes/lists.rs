//! The whole fleet, page by page.

use mesh_api::fleet::{NodeAll, NodeConfigure, NodeGet, NodeRegister, NodeRegisterRequest, Viewer};
use mesh_api::{Caller, PageQuery};
use mesh_types::fleet::{NodeMode, Sharing};

use super::{configured, of, registration, viewer};
use crate::setup::{Mesh, tenant};

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
