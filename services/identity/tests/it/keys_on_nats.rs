//! Programs and people with API keys on NATS: what they get of it, and that it ends with the key and with its owner.

use std::time::Duration;

use bytes::Bytes;
use mesh_api::identity::{
    KeyCreate, KeyCreated, KeyRequest, KeyRevoke, RevokeRequest, UserChange, UserCreate, UserDelete, UserRef,
    UserRequest, UserUpdate, UserUpdateRequest, UserView,
};
use mesh_api::{Caller, Role};
use mesh_bus::{Headers, StreamName};
use mesh_testkit::wait_until;
use mesh_types::{Code, Problem, Subject};

use crate::raw::Raw;
use crate::setup::{Mesh, SOON, caller, joining, key_of};

async fn key_for(mesh: &Mesh, owner: &str, role: Role, scopes: &[&str]) -> Result<KeyCreated, Problem> {
    let request = KeyRequest {
        role: Some(role),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        ..key_of(owner)
    };
    mesh.call::<KeyCreate>("dev", request).await
}

async fn connect(mesh: &Mesh, key: &KeyCreated) -> Result<Raw, String> {
    Raw::connect(mesh.nats.url(), &key.key.id, &key.secret).await
}

async fn ended(raw: &mut Raw) {
    tokio::time::timeout(SOON, raw.ended()).await.unwrap();
}

#[tokio::test]
async fn a_program_publishes_and_gets_the_streams_answer() {
    let mesh = Mesh::start().await;
    let key = key_for(&mesh, "bot", Role::Service, &[]).await.unwrap();
    let mut raw = connect(&mesh, &key).await.unwrap();
    let inbox = format!("_INBOX.{}.1", key.key.id);
    let answer = raw.request("mesh.invoke.default.sofia", &inbox, "{}").await;
    assert!(answer.contains(r#""stream":"INVOCATIONS""#), "{answer}");
    let other = raw.publish("mesh.invoke.daarion.sofia", "{}").await;
    assert!(other[0].contains("Permissions Violation"), "{other:?}");
}

#[tokio::test]
async fn a_subscription_to_all_facts_leaves_out_those_that_are_not_for_everybody() {
    let mesh = Mesh::start().await;
    let viewer = key_for(&mesh, "ann", Role::Viewer, &[]).await.unwrap();
    let mut raw = connect(&mesh, &viewer).await.unwrap();
    assert!(raw.subscribe("mesh.event.default.>").await.is_empty());
    for kind in ["node", "audit", "agent"] {
        let fact: Subject = format!("mesh.event.default.{kind}.x.done").parse().unwrap();
        mesh.bus.publish(&fact, Bytes::from_static(b"{}")).await.unwrap();
    }
    // Making keys told facts of the audit, too.
    assert_eq!(raw.next().await.0, "mesh.event.default.agent.x.done");
}

#[tokio::test]
async fn every_connection_of_a_revoked_key_ends() {
    let mesh = Mesh::start().await;
    let key = key_for(&mesh, "bot", Role::Service, &[]).await.unwrap();
    let mut first = connect(&mesh, &key).await.unwrap();
    let mut second = connect(&mesh, &key).await.unwrap();
    let mut by_token = Raw::connect(mesh.nats.url(), "", &key.secret).await.unwrap();
    let other = key_for(&mesh, "bot", Role::Service, &[]).await.unwrap();
    let mut stays = connect(&mesh, &other).await.unwrap();
    let id = key.key.id.clone();
    mesh.call::<KeyRevoke>("dev", RevokeRequest { id }).await.unwrap();
    for raw in [&mut first, &mut second, &mut by_token] {
        ended(raw).await;
    }
    assert!(connect(&mesh, &key).await.is_err());
    assert!(stays.publish("mesh.invoke.default.sofia", "{}").await.is_empty());
}

#[tokio::test]
async fn another_instance_of_identity_finds_connections_that_it_did_not_let_in() {
    let mesh = Mesh::start().await;
    let key = key_for(&mesh, "bot", Role::Service, &[]).await.unwrap();
    let mut raw = connect(&mesh, &key).await.unwrap();
    // The one that let it in is gone, and with it what it knew.
    let restarted = mesh.restart_identity().await;
    let id = key.key.id.clone();
    mesh.call::<KeyRevoke>("dev", RevokeRequest { id }).await.unwrap();
    ended(&mut raw).await;
    drop(restarted);
}

#[tokio::test]
async fn a_connection_ends_with_its_key() {
    let mesh = Mesh::start().await;
    let request = KeyRequest {
        expires_in_seconds: Some(5),
        role: Some(Role::Service),
        ..key_of("bot")
    };
    let key = mesh.call::<KeyCreate>("dev", request).await.unwrap();
    let mut raw = connect(&mesh, &key).await.unwrap();
    let last = tokio::time::timeout(Duration::from_secs(30), raw.ended())
        .await
        .unwrap();
    assert!(last.contains("Expired"), "{last}");
    // The server counts whole seconds: it may be early by less than one.
    wait_until(SOON, || async { connect(&mesh, &key).await.is_err() }).await;
}

async fn change(mesh: &Mesh, ann: &UserView, change: UserChange) {
    let id = ann.id.clone();
    let request = UserUpdateRequest { id, change };
    mesh.call::<UserUpdate>("dev", request).await.unwrap();
}

async fn person(mesh: &Mesh, login: &str) -> UserView {
    let request = UserRequest {
        login: login.into(),
        name: String::new(),
        role: Role::Owner,
        password: None,
        tenant: None,
    };
    mesh.call::<UserCreate>("dev", request).await.unwrap().user
}

#[tokio::test]
async fn what_stands_for_a_disabled_person_is_cut_off_until_he_is_back() {
    let mesh = Mesh::start().await;
    let ann = person(&mesh, "ann").await;
    let key = key_for(&mesh, "ann", Role::Operator, &[]).await.unwrap();
    let node = mesh
        .call::<mesh_api::identity::Enroll>("service:gateway", joining(Some(&key.secret), Some("kitchen")))
        .await
        .unwrap();
    let secret = node.secret.unwrap();
    let url = mesh.nats.url();
    let mut of_key = connect(&mesh, &key).await.unwrap();
    let mut of_node = Raw::connect(url, "kitchen", &secret).await.unwrap();
    let disabled = |disabled| UserChange {
        disabled: Some(disabled),
        ..UserChange::default()
    };
    change(&mesh, &ann, disabled(true)).await;
    ended(&mut of_key).await;
    ended(&mut of_node).await;
    assert!(connect(&mesh, &key).await.is_err());
    assert!(Raw::connect(url, "kitchen", &secret).await.is_err());
    mesh.refusal("nats.connect", "the person is disabled").await;
    change(&mesh, &ann, disabled(false)).await;
    connect(&mesh, &key).await.unwrap();
    let mut of_node = Raw::connect(url, "kitchen", &secret).await.unwrap();
    // Who leaves for good takes his nodes with him.
    mesh.call::<UserDelete>("dev", UserRef { id: ann.id.clone() })
        .await
        .unwrap();
    ended(&mut of_node).await;
    assert!(Raw::connect(url, "kitchen", &secret).await.is_err());
}

#[tokio::test]
async fn a_person_with_a_lesser_role_has_keys_of_less() {
    let mesh = Mesh::start().await;
    let ann = person(&mesh, "ann").await;
    let key = key_for(&mesh, "ann", Role::Service, &[]).await.unwrap();
    let mut raw = connect(&mesh, &key).await.unwrap();
    assert!(raw.publish("mesh.invoke.default.sofia", "{}").await.is_empty());
    let role = UserChange {
        role: Some(Role::Viewer),
        ..UserChange::default()
    };
    change(&mesh, &ann, role).await;
    ended(&mut raw).await;
    let mut raw = connect(&mesh, &key).await.unwrap();
    assert!(!raw.publish("mesh.invoke.default.sofia", "{}").await.is_empty());
}

#[tokio::test]
async fn only_who_runs_the_installation_lets_a_key_publish_for_every_tenant() {
    let mesh = Mesh::start().await;
    let owner = Caller {
        role: Some(Role::Owner),
        ..caller("user:ann", "default")
    };
    let request = KeyRequest {
        role: Some(Role::Service),
        scopes: vec!["router:write".into()],
        ..key_of("ann")
    };
    let refused = mesh.bus.call::<KeyCreate>(&owner, &request).await.unwrap_err();
    assert!(
        refused.is(Code::Forbidden) && refused.detail.contains("router:write"),
        "{refused:?}"
    );
    let plain = key_for(&mesh, "ann", Role::Owner, &[]).await.unwrap();
    let mut raw = connect(&mesh, &plain).await.unwrap();
    assert!(!raw.publish("router.invoke.agent", "{}").await.is_empty());
    let granted = mesh.call::<KeyCreate>("dev", request).await.unwrap();
    let mut raw = connect(&mesh, &granted).await.unwrap();
    assert!(raw.publish("router.invoke.agent", "{}").await.is_empty());
}

/// The server lets a publisher choose where the stream's acknowledgement goes, unchecked: all that it can do there is
/// what a text of the stream's name and a number does, and that calls none of the server's own verbs.
#[tokio::test]
async fn an_acknowledgement_that_is_sent_elsewhere_purges_and_deletes_nothing() {
    let mesh = Mesh::start().await;
    let key = key_for(&mesh, "bot", Role::Service, &[]).await.unwrap();
    let fact: Subject = "mesh.event.default.agent.x.done".parse().unwrap();
    let body = Bytes::from_static(b"{}");
    let kept = mesh
        .bus
        .publish_durable(&fact, "one", Headers::new(), body)
        .await
        .unwrap();
    let before = mesh.bus.stream_extent(StreamName::Events).await.unwrap();
    let mut raw = connect(&mesh, &key).await.unwrap();
    for verb in ["PURGE", "DELETE", "MSG.DELETE"] {
        let line = format!("mesh.invoke.default.sofia $JS.API.STREAM.{verb}.EVENTS 2");
        raw.publish_line(&line, "{}").await;
    }
    // Its own comes after those before.
    let inbox = format!("_INBOX.{}.1", key.key.id);
    raw.request("mesh.invoke.default.sofia", &inbox, "{}").await;
    let after = mesh.bus.stream_extent(StreamName::Events).await.unwrap();
    assert_eq!((after.created, after.first), (before.created, before.first));
    assert!(after.last >= kept.sequence);
}
