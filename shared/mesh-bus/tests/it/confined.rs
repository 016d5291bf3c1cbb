//! Who may say and hear only what is its own: a node, with the permissions that it has.

use std::time::Duration;

use mesh_bus::{Bus, BusError, BusOptions};
use mesh_testkit::{TestNats, wait_until};
use mesh_types::subject::Filter;
use mesh_types::{NodeId, Subject};
use tokio::time::Instant;

use crate::support::SOON;

const USERS: &str = r#"
authorization { users: [
  {user: "mesh", password: "pw"}
  {user: "kitchen", password: "secret", permissions: {
    publish: ["mesh.node.kitchen.>", "mesh.heartbeat.kitchen"], subscribe: ["_INBOX.kitchen.>", "mesh.bell.kitchen"]
  }}
] }
"#;

fn options(nats: &TestNats, user: &str, password: &str) -> BusOptions {
    BusOptions {
        url: nats.url().to_owned(),
        name: user.to_owned(),
        monitor_url: None,
        user: Some((user.to_owned(), password.to_owned())),
    }
}

fn kitchen() -> NodeId {
    "kitchen".parse().unwrap()
}

async fn server() -> TestNats {
    TestNats::start_with(|options| options.extra_config = USERS.to_owned()).await
}

#[tokio::test]
async fn a_node_asks_and_hears_within_its_own_subjects() {
    let nats = server().await;
    let bus = Bus::connect_now(options(&nats, "mesh", "pw"), None).await.unwrap();
    assert!(bus.is_connected());
    let node = Bus::connect_now(options(&nats, "kitchen", "secret"), Some(kitchen()))
        .await
        .unwrap();
    let began = Instant::now();
    let filter = Filter::Only(Subject::Bell { node: kitchen() });
    let mut bell = node.subscribe(&filter).await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "a flush needs nothing that is not its own"
    );
    bus.publish(&Subject::Bell { node: kitchen() }, "x".into())
        .await
        .unwrap();
    assert_eq!(bell.next().await.unwrap().payload, "x");
}

#[tokio::test]
async fn a_refused_credential_is_told_apart_from_a_server_that_is_not_there() {
    let nats = server().await;
    let wrong = Bus::connect_now(options(&nats, "kitchen", "guessed"), Some(kitchen())).await;
    let error = wrong.unwrap_err();
    assert!(matches!(error, BusError::CredentialRefused { .. }), "{error:?}");
    assert!(!error.is_transient());
    nats.stop().await;
    let gone = Bus::connect_now(options(&nats, "kitchen", "secret"), Some(kitchen())).await;
    let error = gone.unwrap_err();
    assert!(matches!(error, BusError::Unreachable { .. }), "{error:?}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_refusal_in_the_background_rings() {
    let nats = server().await;
    let node = Bus::connect_confined(options(&nats, "kitchen", "guessed"), kitchen())
        .await
        .unwrap();
    let refusals = node.refusals();
    wait_until(SOON, || async { *refusals.borrow() >= 2 }).await;
    assert!(!node.is_connected());
}
