//! The topology on a real server: applied twice, drifted, refused; rendered to its file.

use std::time::Duration;

use bytes::Bytes;
use mesh_bus::topology::{self, Storage};
use mesh_bus::{Applied, Bucket, Headers, TopologyError};
use mesh_testkit::{TestNats, wait_until};
use mesh_types::{Id, InvocationId, Subject, Tenant};
use tokio_util::sync::CancellationToken;

use crate::support::{SOON, connect, event, stranger};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../nats/topology.json");

#[test]
fn the_rendered_topology_is_the_one_in_the_repository() {
    let rendered = topology::standard().render();
    if std::env::var_os("MESH_UPDATE_GENERATED").is_some() {
        std::fs::create_dir_all(std::path::Path::new(FILE).parent().unwrap()).unwrap();
        std::fs::write(FILE, &rendered).unwrap();
    }
    let kept = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(
        kept == rendered,
        "nats/topology.json is not what the code says: run this test with MESH_UPDATE_GENERATED=1"
    );
}

#[tokio::test]
async fn applied_twice_it_changes_nothing_and_is_verified() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let topology = topology::standard();
    let error = bus.verify_topology(&topology).await.unwrap_err();
    assert!(error.to_string().contains("stream INVOCATIONS is missing"), "{error}");
    let applied = bus.apply_topology(&topology).await.unwrap();
    assert_eq!(applied.len(), 11);
    assert!(
        applied.iter().all(|one| matches!(one, Applied::Created(_))),
        "{applied:?}"
    );
    let applied = bus.apply_topology(&topology).await.unwrap();
    assert!(
        applied.iter().all(|one| matches!(one, Applied::Unchanged(_))),
        "{applied:?}"
    );
    bus.verify_topology(&topology).await.unwrap();
    // The server holds it over a restart, too.
    nats.restart().await;
    assert!(bus.wait_connected(SOON).await);
    bus.verify_topology(&topology).await.unwrap();
}

#[tokio::test]
async fn streams_in_memory_are_made_again_after_each_restart() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let shutdown = CancellationToken::new();
    let kept = tokio::spawn({
        let (bus, shutdown) = (bus.clone(), shutdown.clone());
        async move { bus.keep_topology(&topology::standard(), shutdown).await }
    });
    let tokens = Subject::Tokens {
        tenant: Tenant::default(),
        invocation: InvocationId::from_u128(1),
    };
    let is_taken = async || bus.publish_acked(&tokens, Headers::new(), Bytes::new()).await.is_ok();
    for _ in 0..2 {
        wait_until(SOON, is_taken).await;
        // Made one after the other: this one later.
        wait_until(SOON, async || {
            bus.kv_put(Bucket::Presence, "n1", "here".into()).await.is_ok()
        })
        .await;
        nats.restart().await;
        wait_until(SOON, async || bus.kv_list(Bucket::Presence).await.is_ok()).await;
        assert_eq!(bus.kv_get(Bucket::Presence, "n1").await.unwrap(), None);
    }
    shutdown.cancel();
    kept.await.unwrap();
}

#[tokio::test]
async fn drift_is_told_by_field_and_mended() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let topology = topology::standard();
    bus.apply_topology(&topology).await.unwrap();
    let jetstream = async_nats::jetstream::new(stranger(&nats).await);
    let stream = jetstream.get_stream("JOURNAL").await.unwrap();
    let mut config = stream.cached_info().config.clone();
    config.max_messages = 7;
    config.max_age = Duration::from_secs(60);
    jetstream.update_stream(&config).await.unwrap();

    let error = bus.verify_topology(&topology).await.unwrap_err();
    assert!(
        matches!(&error, TopologyError::Drift(lines) if lines.len() == 1),
        "{error:?}"
    );
    let text = error.to_string();
    for part in [
        "stream JOURNAL",
        "max_msgs is 7, declared 5000000",
        "max_age",
        "mesh migrate",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    let applied = bus.apply_topology(&topology).await.unwrap();
    assert!(
        matches!(&applied[1], Applied::Updated(what, fields)
        if what == "stream JOURNAL" && fields.len() == 2),
        "{applied:?}"
    );
    bus.verify_topology(&topology).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_changed_in_place_is_refused_and_nothing_is_lost() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let mut other = topology::standard();
    other.streams[3].storage = Storage::Memory;
    other.streams[3].max_bytes = 1024 * 1024;
    bus.apply_topology(&other).await.unwrap();
    bus.publish_durable(&event("a"), "1", Headers::new(), "x".into())
        .await
        .unwrap();

    let error = bus.apply_topology(&topology::standard()).await.unwrap_err();
    assert!(matches!(error, TopologyError::CannotChange { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("stream EVENTS") && text.contains("storage"), "{text}");
    let jetstream = async_nats::jetstream::new(stranger(&nats).await);
    let stream = jetstream.get_stream("EVENTS").await.unwrap();
    assert_eq!(stream.get_raw_message(1).await.unwrap().payload, "x");
}

#[tokio::test]
async fn a_journal_that_syncs_otherwise_is_drift() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let mut other = topology::standard();
    other.streams[1].persist_mode = topology::PersistMode::Default;
    bus.apply_topology(&other).await.unwrap();
    let error = bus
        .verify_topology(&topology::standard())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("stream JOURNAL: persist_mode"), "{error}");
}
