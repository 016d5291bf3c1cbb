//! Streams copied out of one server and into another: messages, places, times, consumers, and what is refused.

use bytes::Bytes;
use mesh_bus::{Bucket, Bus, Headers, Settled, StreamName, topology};
use mesh_testkit::wait_until;
use serde_json::{Value, json};

use crate::support::{SOON, event, invoke, mesh};

struct Copied {
    config: Value,
    state: Value,
    chunks: Vec<Bytes>,
}

async fn copy(bus: &Bus, name: &str) -> Copied {
    let mut snapshot = bus.snapshot_stream(name).await.unwrap().expect("it is there");
    let mut chunks = Vec::new();
    while let Some(chunk) = snapshot.next().await.unwrap() {
        chunks.push(chunk);
    }
    Copied {
        config: snapshot.config,
        state: snapshot.state,
        chunks,
    }
}

async fn put_back(bus: &Bus, copied: &Copied) -> Value {
    let restore = bus.restore_stream(&copied.config, &copied.state).await.unwrap();
    for chunk in &copied.chunks {
        restore.send(chunk.clone()).await.unwrap();
    }
    restore.finish().await.unwrap()
}

#[tokio::test]
async fn an_inbox_keeps_places_times_and_what_its_consumer_has_taken() {
    let (_nats, bus) = mesh().await;
    for number in 0..5 {
        let body = Bytes::from(format!("message {number}"));
        bus.publish_acked(&invoke(), Headers::new(), body).await.unwrap();
    }
    let mut puller = bus.pull(topology::intake()).await.unwrap();
    let taken = puller.next_batch(2, SOON).await.unwrap();
    for delivery in &taken {
        delivery.settle(Settled::Ack).await.unwrap();
    }
    puller.close().await;
    let inbox = StreamName::Invocations.as_str();
    let three_are_left = async || bus.stream_info(inbox).await.unwrap().unwrap()["state"]["messages"] == 3;
    wait_until(SOON, three_are_left).await;
    let before = bus.stream_info(inbox).await.unwrap().unwrap();
    let copied = copy(&bus, inbox).await;

    let (_other, there) = mesh().await;
    let refused = there.restore_stream(&copied.config, &copied.state).await.unwrap_err();
    assert!(refused.to_string().contains("INVOCATIONS"), "{refused}");
    assert!(there.make_room_for(inbox).await.unwrap());
    assert!(!there.make_room_for(inbox).await.unwrap(), "there is none any more");
    let state = put_back(&there, &copied).await;
    assert_eq!(state["messages"], 3, "{state}");
    for field in ["first_seq", "last_seq", "last_ts"] {
        assert_eq!(state[field], before["state"][field], "{field}: {state}");
    }
    there.verify_topology(&topology::standard()).await.unwrap();
    let consumers = there.stream_consumers(inbox).await.unwrap();
    assert_eq!(consumers[0]["ack_floor"]["stream_seq"], 2, "{consumers:?}");
    let mut puller = there.pull(topology::intake()).await.unwrap();
    let rest = puller.next_batch(10, SOON).await.unwrap();
    let bodies: Vec<_> = rest
        .iter()
        .map(|delivery| (delivery.stream_sequence, &delivery.payload[..]))
        .collect();
    let wanted: [(u64, &[u8]); 3] = [(3, b"message 2"), (4, b"message 3"), (5, b"message 4")];
    assert_eq!(bodies, wanted);
    puller.close().await;
}

#[tokio::test]
async fn more_than_the_window_and_a_bucket_come_through_and_an_empty_stream_too() {
    let (_nats, bus) = mesh().await;
    // Text that does not pack: more than twice the window of a copy.
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    for number in 0..24 {
        let body: Vec<u8> = (0..500_000).map(|_| noise()).collect();
        let id = format!("evt{number}");
        bus.publish_durable(&event(&id), &id, Headers::new(), body.into())
            .await
            .unwrap();
    }
    bus.kv_put(Bucket::Pushes, "default.inv.one", Bytes::from("told"))
        .await
        .unwrap();
    let (_other, there) = mesh().await;
    for name in [
        StreamName::Events.as_str(),
        Bucket::Pushes.stream(),
        StreamName::DeadLetters.as_str(),
    ] {
        let copied = copy(&bus, name).await;
        there.make_room_for(name).await.unwrap();
        let state = put_back(&there, &copied).await;
        assert_eq!(state["messages"], copied.state["messages"], "{name}: {state}");
    }
    let value = there.kv_get(Bucket::Pushes, "default.inv.one").await.unwrap();
    assert_eq!(value, Some(Bytes::from("told")));
    let extent = there.stream_extent(StreamName::Events).await.unwrap();
    assert_eq!(extent.last, 24);
}

#[tokio::test]
async fn what_is_no_copy_is_refused_and_leaves_no_stream() {
    let (_nats, bus) = mesh().await;
    let inbox = StreamName::Invocations.as_str();
    let copied = copy(&bus, inbox).await;
    bus.make_room_for(inbox).await.unwrap();
    let restore = bus.restore_stream(&copied.config, &copied.state).await.unwrap();
    // The server may refuse it with any of these.
    let mut refused = restore.send(Bytes::from(vec![7; 4096])).await.is_err();
    refused |= restore.finish().await.is_err();
    assert!(refused, "noise is no stream");
    assert_eq!(bus.stream_info(inbox).await.unwrap(), None);
    assert!(bus.snapshot_stream(inbox).await.unwrap().is_none());
    assert!(bus.restore_stream(&json!({"name": "../x"}), &json!({})).await.is_err());
}
