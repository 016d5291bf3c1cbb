//! Limits of the streams at N and N + 1.

use bytes::Bytes;
use mesh_bus::{BusError, Headers, topology};
use mesh_testkit::TestNats;

use crate::support::{connect, invoke, mesh, stranger};

#[tokio::test]
async fn a_full_inbox_refuses_the_next_message_and_keeps_the_old_ones() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let mut small = topology::standard();
    small.streams[0].max_msgs = 3;
    bus.apply_topology(&small).await.unwrap();
    for id in ["1", "2", "3"] {
        bus.publish_acked(&invoke(), Headers::new(), id.into()).await.unwrap();
    }
    let error = bus
        .publish_acked(&invoke(), Headers::new(), "4".into())
        .await
        .unwrap_err();
    assert!(matches!(error, BusError::Refused { code: 10_077, .. }), "{error:?}");
    let jetstream = async_nats::jetstream::new(stranger(&nats).await);
    let stream = jetstream.get_stream("INVOCATIONS").await.unwrap();
    assert_eq!(stream.get_raw_message(1).await.unwrap().payload, "1");
    assert_eq!(stream.cached_info().state.messages, 3);
}

#[tokio::test]
async fn the_largest_message_is_taken_and_one_byte_more_is_not() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let mut small = topology::standard();
    small.streams[0].max_msg_size = 1_000;
    bus.apply_topology(&small).await.unwrap();
    let body = Bytes::from(vec![b'x'; 1_001]);
    bus.publish_acked(&invoke(), Headers::new(), body.slice(1..))
        .await
        .unwrap();
    let error = bus.publish_acked(&invoke(), Headers::new(), body).await.unwrap_err();
    assert!(matches!(error, BusError::Refused { code: 10_054, .. }), "{error:?}");
    // Over the server's own limit nothing is sent at all.
    let huge = Bytes::from(vec![b'x'; 8 * 1024 * 1024 + 1]);
    let error = bus
        .publish_acked(&invoke(), Headers::new(), huge.clone())
        .await
        .unwrap_err();
    assert!(matches!(error, BusError::TooLarge { .. }), "{error:?}");
    assert!(matches!(
        bus.publish(&invoke(), huge).await,
        Err(BusError::TooLarge { .. })
    ));
}

#[tokio::test]
async fn the_inbox_has_one_consumer_and_no_second() {
    let (nats, _bus) = mesh().await;
    let jetstream = async_nats::jetstream::new(stranger(&nats).await);
    let stream = jetstream.get_stream("INVOCATIONS").await.unwrap();
    assert_eq!(stream.cached_info().state.consumer_count, 1);
    let second = async_nats::jetstream::consumer::pull::Config {
        durable_name: Some("second".to_owned()),
        ..Default::default()
    };
    let error = stream.create_consumer(second).await.unwrap_err().to_string();
    assert!(error.contains("maximum consumers limit reached"), "{error}");
}
