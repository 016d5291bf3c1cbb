//! Nodes that the registry has forgotten: their secrets are none any more, and those they got since stay.

use std::sync::atomic::Ordering;

use mesh_api::identity::{Enroll, KeyRevoke, RevokeRequest};
use mesh_bus::Headers;
use mesh_testkit::wait_until;
use mesh_types::event::{Event, Fact};
use mesh_types::fleet::NodeMode;
use mesh_types::{Code, EventId, Id, NodeId, Tenant, Timestamp};

use crate::raw::Raw;
use crate::setup::{Mesh, SOON, joining};

/// A node of ann's, and its secret.
async fn joined(mesh: &Mesh, node: &str) -> String {
    let key = mesh.key("ann").await;
    let request = joining(Some(&key.secret), Some(node));
    let enrolled = mesh.call::<Enroll>("service:gateway", request).await.unwrap();
    enrolled.secret.unwrap()
}

async fn is_good(mesh: &Mesh, secret: &str) -> bool {
    let back = mesh
        .call::<Enroll>("service:gateway", joining(Some(secret), None))
        .await;
    match back {
        Ok(_) => true,
        Err(problem) => {
            assert!(problem.is(Code::Unauthorized), "{problem:?}");
            false
        }
    }
}

async fn tell_forgotten(mesh: &Mesh, node: &str, at: Timestamp) {
    let event = Event {
        request_id: None,
        change: None,
        id: EventId::from_u128(at.as_micros().unsigned_abs().into()),
        tenant: Tenant::default(),
        at,
        actor: "user:ann".into(),
        fact: Fact::NodeForgotten {
            node: node.parse().unwrap(),
            owner: "ann".into(),
            mode: NodeMode::Private,
        },
    };
    let body = serde_json::to_vec(&event).unwrap();
    mesh.bus
        .publish_durable(&event.subject(), &event.id.to_string(), Headers::new(), body.into())
        .await
        .unwrap();
}

#[tokio::test]
async fn an_event_takes_the_secret_of_its_time_and_none_that_is_newer() {
    let mesh = Mesh::start().await;
    let before = mesh.now();
    let (kitchen, cellar) = (joined(&mesh, "kitchen").await, joined(&mesh, "cellar").await);
    let mut raw = Raw::connect(mesh.nats.url(), "kitchen", &kitchen).await.unwrap();
    // One that comes late, of a node that has joined again since.
    tell_forgotten(&mesh, "cellar", before).await;
    let node: NodeId = "kitchen".parse().unwrap();
    mesh.registry.nodes.lock().unwrap().remove(&node);
    tell_forgotten(&mesh, "kitchen", mesh.now()).await;
    tokio::time::timeout(SOON, raw.ended()).await.unwrap();
    assert!(!is_good(&mesh, &kitchen).await);
    assert!(is_good(&mesh, &cellar).await, "events are handled in their order");
    // The id is free again, for a token as well.
    let token = mesh.join_token("ann").await;
    let request = joining(Some(&token.secret), Some("kitchen"));
    mesh.call::<Enroll>("service:gateway", request).await.unwrap();
}

#[tokio::test]
async fn what_no_event_told_is_found_at_the_next_start() {
    let mesh = Mesh::start().await;
    let (kitchen, cellar) = (joined(&mesh, "kitchen").await, joined(&mesh, "cellar").await);
    let node: NodeId = "kitchen".parse().unwrap();
    mesh.registry.nodes.lock().unwrap().remove(&node);
    let second = mesh.second_identity().await;
    // Asking with its secret would register it again.
    let id = || "kitchen".to_owned();
    wait_until(SOON, || async {
        let revoked = mesh.call::<KeyRevoke>("dev", RevokeRequest { id: id() }).await;
        revoked.is_err_and(|problem| problem.is(Code::CredentialNotFound))
    })
    .await;
    assert!(!is_good(&mesh, &kitchen).await);
    assert!(is_good(&mesh, &cellar).await);
    assert!(mesh.registry.asked.load(Ordering::SeqCst) >= 2);
    mesh.stop().await;
    second.drain(SOON).await;
}
