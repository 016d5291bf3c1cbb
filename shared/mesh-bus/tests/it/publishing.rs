//! Durable publishes.

use bytes::Bytes;
use mesh_bus::{BusError, Headers, topology};
use mesh_testkit::TestNats;
use mesh_types::Subject;

use crate::support::{connect, event, invoke, mesh, stranger};

#[tokio::test]
async fn published_twice_is_stored_once() {
    let (nats, bus) = mesh().await;
    let body = Bytes::from_static(b"{}");
    let first = bus
        .publish_durable(&event("a"), "evt_1", Headers::new(), body.clone())
        .await
        .unwrap();
    let again = bus
        .publish_durable(&event("a"), "evt_1", Headers::new(), body.clone())
        .await
        .unwrap();
    assert!(!first.duplicate && again.duplicate);
    assert_eq!((first.sequence, first.stream.as_str()), (again.sequence, "EVENTS"));
    let other = bus
        .publish_durable(&event("a"), "evt_2", Headers::new(), body)
        .await
        .unwrap();
    assert_eq!(other.sequence, first.sequence + 1);

    let jetstream = async_nats::jetstream::new(stranger(&nats).await);
    let stream = jetstream.get_stream("EVENTS").await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 2);
    let kept = stream.get_raw_message(first.sequence).await.unwrap();
    assert_eq!(kept.headers.get("Nats-Msg-Id").unwrap().as_str(), "evt_1");
}

#[tokio::test]
async fn an_acknowledged_publish_without_an_id_is_stored_each_time() {
    let (_nats, bus) = mesh().await;
    let journal = Subject::JournalMark { shard: 3 };
    for expected in 1..=3 {
        let stored = bus.publish_acked(&journal, Headers::new(), Bytes::new()).await.unwrap();
        assert_eq!((stored.sequence, stored.duplicate), (expected, false));
    }
}

#[tokio::test]
async fn without_a_stream_a_durable_publish_says_so() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let error = bus
        .publish_durable(&invoke(), "1", Headers::new(), Bytes::new())
        .await
        .unwrap_err();
    assert!(matches!(&error, BusError::NoStream { subject } if *subject == invoke().to_string()));
    assert!(error.is_transient());
    // Applied late, it works.
    bus.apply_topology(&topology::standard()).await.unwrap();
    bus.publish_durable(&invoke(), "1", Headers::new(), Bytes::new())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_publish_that_was_stored_unheard_is_found_again() {
    let (nats, bus) = mesh().await;
    let body = Bytes::from_static(b"{}");
    let jetstream = async_nats::jetstream::new(stranger(&nats).await);
    // Stored by an earlier try of ours whose acknowledgement was lost, among others.
    for id in ["other-1", "mine", "other-2"] {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        let subject = invoke().to_string();
        let ack = jetstream
            .publish_with_headers(subject, headers, body.clone())
            .await
            .unwrap();
        ack.await.unwrap();
    }
    let found = bus.find_stored(&invoke(), "mine").await.unwrap();
    assert_eq!((found.sequence, found.duplicate), (2, true));
    assert_eq!(bus.find_stored(&invoke(), "never").await, None);
}
