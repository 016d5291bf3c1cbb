//! NATS users: nats-server asks identity, and holds everybody to the rights that it gave.

use std::time::Duration;

use mesh_api::identity::{Enrolled, KeyRevoke, RevokeRequest};
use mesh_types::subject::Filter;

use crate::raw::Raw;
use crate::setup::{Mesh, SOON, joining};

/// Joins as a node does: over NATS, at the token's own subject.
async fn join(mesh: &Mesh, secret: &str, token: &str, node: &str) -> Enrolled {
    let mut raw = Raw::connect(mesh.nats.url(), token, secret).await.unwrap();
    let request = serde_json::to_string(&joining(Some(secret), Some(node))).unwrap();
    let (subject, inbox) = (
        format!("mesh.node.{token}.identity.enroll"),
        format!("_INBOX.{token}.1"),
    );
    let answer = raw.request(&subject, &inbox, &request).await;
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

async fn node(mesh: &Mesh, owner: &str, name: &str) -> String {
    let token = mesh.join_token(owner).await;
    join(mesh, &token.secret, &token.join_token.id, name)
        .await
        .secret
        .unwrap()
}

#[tokio::test]
async fn a_node_says_and_hears_what_is_its_own_and_nothing_else() {
    let mesh = Mesh::start().await;
    let secret = node(&mesh, "ann", "kitchen").await;
    let mut raw = Raw::connect(mesh.nats.url(), "kitchen", &secret).await.unwrap();
    for subject in [
        "mesh.heartbeat.kitchen",
        "mesh.health.kitchen",
        "mesh.node.kitchen.execution.claim",
    ] {
        assert_eq!(raw.publish(subject, "{}").await, Vec::<String>::new(), "{subject}");
    }
    for subject in [
        "mesh.heartbeat.cellar",
        "mesh.health.cellar",
        "mesh.node.cellar.execution.claim",
        "mesh.node.cellar.identity.enroll",
        "mesh.svc.registry.node-forget",
        "mesh.svc.identity.key-create",
        "mesh.invoke.default.sofia",
        "mesh.bell.kitchen",
        "mesh.tunnel.kitchen",
        "mesh.event.default.node.kitchen.lost",
        "_INBOX.cellar.1",
        "$JS.API.INFO",
        "$JS.API.STREAM.DELETE.EVENTS",
        "$KV.PRESENCE.kitchen",
        "$KV.ASSIGNMENTS.node.kitchen",
        "$SYS.REQ.USER.AUTH",
        "$SYS.REQ.SERVER.PING",
    ] {
        let refused = raw.publish(subject, "{}").await;
        assert!(
            refused.iter().any(|error| error.contains("Permissions Violation")),
            "{subject} {refused:?}"
        );
    }
    for subject in [
        "mesh.bell.kitchen",
        "mesh.tunnel.kitchen",
        "_INBOX.kitchen.*",
        "_INBOX.kitchen.a.b",
    ] {
        assert_eq!(raw.subscribe(subject).await, Vec::<String>::new(), "{subject}");
    }
    for subject in [
        ">",
        "mesh.>",
        "*.heartbeat.*",
        "mesh.heartbeat.kitchen",
        "mesh.bell.*",
        "mesh.bell.cellar",
        "mesh.tunnel.cellar",
        "mesh.node.cellar.>",
        "_INBOX.>",
        "_INBOX.*.>",
        "_INBOX.cellar.>",
        "$SYS.>",
        "$JS.>",
    ] {
        let refused = raw.subscribe(subject).await;
        assert!(
            refused.iter().any(|error| error.contains("Permissions Violation")),
            "{subject} {refused:?}"
        );
    }
}

#[tokio::test]
async fn who_joins_may_ask_to_join_and_nothing_else() {
    let mesh = Mesh::start().await;
    let token = mesh.join_token("ann").await;
    let id = token.join_token.id.as_str();
    let mut raw = Raw::connect(mesh.nats.url(), id, &token.secret).await.unwrap();
    for subject in [
        "mesh.heartbeat.kitchen",
        "mesh.svc.identity.enroll",
        "$JS.API.INFO",
        "mesh.node.x.identity.enroll",
    ] {
        assert!(!raw.publish(subject, "{}").await.is_empty(), "{subject}");
    }
    let own = format!("mesh.node.{id}.execution.claim");
    assert!(!raw.publish(&own, "{}").await.is_empty());
    assert!(!raw.subscribe(">").await.is_empty());
    // The owner's key joins as well.
    let key = mesh.key("ann").await;
    let joined = join(&mesh, &key.secret, &key.key.id, "cellar").await;
    assert_eq!(joined.node.owner, "ann");
}

#[tokio::test]
async fn strangers_foreign_and_forged_credentials_are_refused_and_noted() {
    let mesh = Mesh::start().await;
    let url = mesh.nats.url();
    let (kitchen, cellar) = (node(&mesh, "ann", "kitchen").await, node(&mesh, "bob", "cellar").await);
    let refused = |user: String, password: String| async move {
        let Err(error) = Raw::connect(url, &user, &password).await else {
            panic!("{user} got in")
        };
        assert!(error.contains("Authorization Violation"), "{user}: {error}");
    };
    refused(String::new(), String::new()).await;
    mesh.refusal("nats.connect", "no credential").await;
    refused("mesh".into(), "guessed".into()).await;
    refused(
        "kitchen".into(),
        "mns_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into(),
    )
    .await;
    let fact = mesh.refusal("nats.connect", "no credential of this mesh").await;
    assert_eq!(fact.entry.subject, "kitchen");
    // Another node's secret.
    refused("kitchen".into(), cellar).await;
    let fact = mesh.refusal("nats.connect", "another one's").await;
    assert_eq!(
        (fact.entry.subject.as_str(), fact.entry.actor.as_str()),
        ("kitchen", "kitchen")
    );
    assert!(!serde_json::to_string(&fact).unwrap().contains("mns_"), "{fact:?}");
    Raw::connect(url, "kitchen", &kitchen).await.unwrap();
}

#[tokio::test]
async fn a_revoked_node_is_cut_off_and_does_not_come_back() {
    let mesh = Mesh::start().await;
    let secret = node(&mesh, "ann", "kitchen").await;
    let mut raw = Raw::connect(mesh.nats.url(), "kitchen", &secret).await.unwrap();
    let id = "kitchen".to_owned();
    mesh.call::<KeyRevoke>("user:ann", RevokeRequest { id }).await.unwrap();
    tokio::time::timeout(SOON, raw.ended()).await.unwrap();
    assert!(Raw::connect(mesh.nats.url(), "kitchen", &secret).await.is_err());
    mesh.refusal("nats.connect", "revoked").await;
}

#[tokio::test]
async fn a_node_that_gets_another_secret_is_cut_off_with_the_one_before() {
    let mesh = Mesh::start().await;
    let secret = node(&mesh, "ann", "kitchen").await;
    let mut raw = Raw::connect(mesh.nats.url(), "kitchen", &secret).await.unwrap();
    let key = mesh.key("ann").await;
    let again = join(&mesh, &key.secret, &key.key.id, "kitchen").await;
    tokio::time::timeout(SOON, raw.ended()).await.unwrap();
    assert!(Raw::connect(mesh.nats.url(), "kitchen", &secret).await.is_err());
    Raw::connect(mesh.nats.url(), "kitchen", &again.secret.unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_connection_ends_when_its_time_is_over_even_if_nobody_cuts_it() {
    let mesh = Mesh::start_with(|config| {
        config.connection_seconds = 5;
        config.nats_system = mesh_runtime::Secret::default();
    })
    .await;
    let secret = node(&mesh, "ann", "kitchen").await;
    let mut raw = Raw::connect(mesh.nats.url(), "kitchen", &secret).await.unwrap();
    let last = tokio::time::timeout(Duration::from_secs(30), raw.ended())
        .await
        .unwrap();
    assert!(last.contains("Expired"), "{last}");
    Raw::connect(mesh.nats.url(), "kitchen", &secret).await.unwrap();
}

#[tokio::test]
async fn an_answer_goes_to_an_inbox_and_nowhere_else() {
    let mesh = Mesh::start().await;
    let secret = node(&mesh, "ann", "kitchen").await;
    let mut raw = Raw::connect(mesh.nats.url(), "kitchen", &secret).await.unwrap();
    let mut heard = mesh
        .bus
        .subscribe(&Filter::Only("mesh.heartbeat.cellar".parse().unwrap()))
        .await
        .unwrap();
    let request = serde_json::to_string(&joining(Some(&secret), None)).unwrap();
    let forged = format!(
        "mesh.node.kitchen.identity.enroll mesh.heartbeat.cellar {}",
        request.len()
    );
    raw.publish_line(&forged, &request).await;
    // Asked after it and answered: the forged one was looked at before.
    let answer = raw
        .request("mesh.node.kitchen.identity.enroll", "_INBOX.kitchen.9", &request)
        .await;
    assert!(answer.contains("kitchen"), "{answer}");
    let unheard = tokio::time::timeout(Duration::from_millis(300), heard.next()).await;
    assert!(unheard.is_err(), "{unheard:?}");
}
