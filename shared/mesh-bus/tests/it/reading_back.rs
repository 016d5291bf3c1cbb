//! Reading back what a stream holds of one subject.

use bytes::Bytes;
use mesh_bus::BusError;
use mesh_testkit::{TestNats, wait_until};
use mesh_types::{Id, InvocationId, Subject};

use crate::support::{SOON, connect, mesh};

fn tokens(invocation: u128) -> Subject {
    Subject::Tokens {
        tenant: "daarion".parse().unwrap(),
        invocation: InvocationId::from_u128(invocation),
    }
}

#[tokio::test]
async fn a_late_reader_gets_all_of_one_subject_in_order() {
    let (_nats, bus) = mesh().await;
    for number in 0..600 {
        let text = Bytes::from(number.to_string());
        bus.publish(&tokens(1), text).await.unwrap();
        bus.publish(&tokens(2), Bytes::from_static(b"another's")).await.unwrap();
    }
    bus.flush().await.unwrap();
    let stored = async || bus.read_back(&tokens(1), 1_000).await.unwrap().len() == 600;
    wait_until(SOON, stored).await;
    let read = bus.read_back(&tokens(1), 1_000).await.unwrap();
    let numbers: Vec<u32> = read
        .iter()
        .map(|message| std::str::from_utf8(&message.payload).unwrap().parse().unwrap())
        .collect();
    assert_eq!(numbers, (0..600).collect::<Vec<_>>());
    assert!(read.iter().all(|message| message.subject == tokens(1).to_string()));
    assert_eq!(bus.read_back(&tokens(1), 10).await.unwrap().len(), 10);
    assert!(bus.read_back(&tokens(3), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn without_its_stream_it_says_so() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let error = bus.read_back(&tokens(1), 10).await.unwrap_err();
    assert!(matches!(error, BusError::NoStream { .. }), "{error}");
}
