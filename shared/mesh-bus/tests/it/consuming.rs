//! Consumers: each way to settle, repeats, order, the dead letters.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mesh_bus::{Bucket, Bus, ConsumerSpec, Delivery, Headers, Settled, topology};
use mesh_testkit::{TestNats, deliver_twice, wait_until};
use mesh_types::{Code, Problem};
use tokio_util::sync::CancellationToken;

use crate::support::{SOON, invoke, mesh, stranger};

fn intake() -> ConsumerSpec {
    topology::intake()
}

async fn put(bus: &Bus, body: &str) -> u64 {
    let body = Bytes::copy_from_slice(body.as_bytes());
    bus.publish_acked(&invoke(), Headers::new(), body)
        .await
        .unwrap()
        .sequence
}

async fn messages_in(nats: &TestNats, stream: &str) -> u64 {
    let jetstream = async_nats::jetstream::new(stranger(nats).await);
    jetstream.get_stream(stream).await.unwrap().cached_info().state.messages
}

type Log = Arc<Mutex<Vec<(String, u32)>>>;

/// Consumes until `shutdown`, answering by the body's first word and how often it came.
fn consume(
    bus: &Bus,
    spec: ConsumerSpec,
    shutdown: &CancellationToken,
    settle: fn(&str, u32) -> Settled,
) -> (Log, tokio::task::JoinHandle<()>) {
    let log = Log::default();
    let (bus, shutdown, seen) = (bus.clone(), shutdown.clone(), Arc::clone(&log));
    let task = tokio::spawn(async move {
        let handler = |delivery: Delivery| {
            let body = String::from_utf8(delivery.payload.to_vec()).unwrap();
            seen.lock().unwrap().push((body.clone(), delivery.delivered));
            async move { settle(&body, delivery.delivered) }
        };
        bus.consume(spec, shutdown, handler).await.unwrap();
    });
    (log, task)
}

#[tokio::test]
async fn acknowledged_messages_come_once_in_order_and_leave_the_inbox() {
    let (nats, bus) = mesh().await;
    let shutdown = CancellationToken::new();
    let one_by_one = ConsumerSpec {
        max_in_flight: 1,
        ..intake()
    };
    let (log, task) = consume(&bus, one_by_one, &shutdown, |_, _| Settled::Ack);
    let mut wanted = Vec::new();
    for number in 0..50 {
        put(&bus, &number.to_string()).await;
        wanted.push((number.to_string(), 1));
    }
    wait_until(SOON, || async { log.lock().unwrap().len() == 50 }).await;
    assert_eq!(*log.lock().unwrap(), wanted);
    wait_until(SOON, || async { messages_in(&nats, "INVOCATIONS").await == 0 }).await;
    shutdown.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_retry_comes_again_not_before_its_time() {
    let (nats, bus) = mesh().await;
    let shutdown = CancellationToken::new();
    let (log, task) = consume(&bus, intake(), &shutdown, |_, delivered| {
        if delivered < 3 {
            Settled::RetryIn(Duration::from_millis(150))
        } else {
            Settled::Ack
        }
    });
    let started = Instant::now();
    put(&bus, "again").await;
    wait_until(SOON, || async { log.lock().unwrap().len() == 3 }).await;
    assert!(
        started.elapsed() >= Duration::from_millis(300),
        "{:?}",
        started.elapsed()
    );
    let counts: Vec<_> = log.lock().unwrap().iter().map(|(_, delivered)| *delivered).collect();
    assert_eq!(counts, [1, 2, 3]);
    wait_until(SOON, || async { messages_in(&nats, "INVOCATIONS").await == 0 }).await;
    shutdown.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_dead_message_is_a_dead_letter_with_its_reason_once() {
    let (nats, bus) = mesh().await;
    put(&bus, "fine").await;
    let mut headers = Headers::new();
    headers.insert("X-Mine", "kept");
    let body = Bytes::from_static(b"\xff poison");
    let sequence = bus
        .publish_durable(&invoke(), "m1", headers, body.clone())
        .await
        .unwrap()
        .sequence;
    let mut puller = bus.pull(intake()).await.unwrap();
    let batch = puller.next_batch(10, SOON).await.unwrap();
    assert_eq!(batch.len(), 2);
    batch[0].settle(Settled::Ack).await.unwrap();
    let poison = batch[1].clone();
    assert_eq!((poison.stream_sequence, poison.delivered), (sequence, 1));
    let reason = Problem::new(Code::MalformedJson, "line\nbreaks ü").field("payload");
    let bury = |delivery: Delivery| {
        let reason = reason.clone();
        async move { delivery.settle(Settled::Dead(reason)).await }
    };
    let (first, second) = deliver_twice(poison, bury).await;
    first.unwrap();
    second.unwrap();

    wait_until(SOON, || async { messages_in(&nats, "INVOCATIONS").await == 0 }).await;
    assert_eq!(messages_in(&nats, "DEAD_LETTERS").await, 1);
    let jetstream = async_nats::jetstream::new(stranger(&nats).await);
    let stream = jetstream.get_stream("DEAD_LETTERS").await.unwrap();
    let letter = stream.get_raw_message(1).await.unwrap();
    assert_eq!(letter.subject.as_str(), "mesh.dead.daarion.INVOCATIONS");
    assert_eq!(letter.payload, body);
    let header = |name: &str| letter.headers.get(name).unwrap().as_str().to_owned();
    assert_eq!(header("Nats-Msg-Id"), format!("INVOCATIONS:{sequence}"));
    assert_eq!(header("Mesh-Dead-Subject"), "mesh.invoke.daarion.sofia");
    assert_eq!(header("X-Mine"), "kept");
    let kept: Problem = serde_json::from_str(&header("Mesh-Dead-Reason")).unwrap();
    assert_eq!(kept, reason);
}

#[tokio::test]
async fn a_handler_that_says_dead_buries_the_message_and_goes_on() {
    let (nats, bus) = mesh().await;
    let shutdown = CancellationToken::new();
    let (log, task) = consume(&bus, intake(), &shutdown, |body, _| match body {
        "poison" => Settled::Dead(Problem::new(Code::AgentNotFound, "no agent `sofia`")),
        _ => Settled::Ack,
    });
    for body in ["fine", "poison", "fine too"] {
        put(&bus, body).await;
    }
    wait_until(SOON, || async { log.lock().unwrap().len() == 3 }).await;
    wait_until(SOON, || async { messages_in(&nats, "INVOCATIONS").await == 0 }).await;
    assert_eq!(messages_in(&nats, "DEAD_LETTERS").await, 1);
    assert!(log.lock().unwrap().iter().all(|(_, delivered)| *delivered == 1));
    shutdown.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn the_largest_message_still_becomes_a_dead_letter() {
    let (nats, bus) = mesh().await;
    let body = Bytes::from(vec![b'x'; 8 * 1024 * 1024]);
    bus.publish_acked(&invoke(), Headers::new(), body.clone())
        .await
        .unwrap();
    let mut puller = bus.pull(intake()).await.unwrap();
    let batch = puller.next_batch(1, SOON).await.unwrap();
    let reason = Problem::new(Code::BodyTooLarge, "x".repeat(10_000));
    batch[0].settle(Settled::Dead(reason)).await.unwrap();
    let jetstream = async_nats::jetstream::new(stranger(&nats).await);
    let stream = jetstream.get_stream("DEAD_LETTERS").await.unwrap();
    let letter = stream.get_raw_message(1).await.unwrap();
    assert!(letter.payload.len() > 8 * 1024 * 1024 - 10_000);
    let cut = letter
        .headers
        .get("Mesh-Dead-Cut-From-Bytes")
        .unwrap()
        .as_str()
        .to_owned();
    assert_eq!(cut, body.len().to_string());
}

#[tokio::test]
async fn a_handler_that_panics_is_asked_again() {
    let (nats, bus) = mesh().await;
    let shutdown = CancellationToken::new();
    let (log, task) = consume(&bus, intake(), &shutdown, |body, delivered| {
        assert!(delivered > 1, "{body} is too much");
        Settled::Ack
    });
    put(&bus, "surprise").await;
    wait_until(SOON, || async { log.lock().unwrap().len() == 2 }).await;
    wait_until(SOON, || async { messages_in(&nats, "INVOCATIONS").await == 0 }).await;
    shutdown.cancel();
    task.await.unwrap();
    assert_eq!(messages_in(&nats, "DEAD_LETTERS").await, 0);
}

#[tokio::test]
async fn work_longer_than_the_patience_is_not_delivered_twice() {
    let (_nats, bus) = mesh().await;
    let spec = ConsumerSpec {
        ack_wait: Duration::from_secs(2),
        ..intake()
    };
    let shutdown = CancellationToken::new();
    let seen = Arc::new(Mutex::new(0));
    let task = tokio::spawn({
        let (bus, shutdown, seen) = (bus.clone(), shutdown.clone(), Arc::clone(&seen));
        async move {
            let handler = |_| {
                *seen.lock().unwrap() += 1;
                let shutdown = shutdown.clone();
                async move {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    shutdown.cancel();
                    Settled::Ack
                }
            };
            bus.consume(spec, shutdown.clone(), handler).await.unwrap();
        }
    });
    put(&bus, "long").await;
    task.await.unwrap();
    assert_eq!(*seen.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_batch_is_what_is_there_in_order_and_an_empty_one_takes_the_wait() {
    let (_nats, bus) = mesh().await;
    let mut puller = bus.pull(intake()).await.unwrap();
    let started = Instant::now();
    assert!(
        puller
            .next_batch(10, Duration::from_millis(300))
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        started.elapsed() >= Duration::from_millis(250),
        "{:?}",
        started.elapsed()
    );
    for number in 0..25 {
        put(&bus, &number.to_string()).await;
    }
    let mut bodies = Vec::new();
    let mut sizes = Vec::new();
    while bodies.len() < 25 {
        let batch = puller.next_batch(10, SOON).await.unwrap();
        sizes.push(batch.len());
        for delivery in batch {
            bodies.push(String::from_utf8(delivery.payload.to_vec()).unwrap());
            assert!(delivery.published_at.as_micros() > 0);
            assert_eq!(delivery.published_at_ns / 1_000, delivery.published_at.as_micros());
            delivery.settle(Settled::Ack).await.unwrap();
        }
    }
    assert_eq!(sizes, [10, 10, 5]);
    assert_eq!(bodies, (0..25).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_pull_that_is_given_up_loses_nothing() {
    let (_nats, bus) = mesh().await;
    let mut puller = bus.pull(intake()).await.unwrap();
    let mut bodies = Vec::new();
    for number in 0..20 {
        // Given up at various points of the request.
        let given_up = Duration::from_micros(number * 150);
        let _ = tokio::time::timeout(given_up, puller.next_batch(5, SOON))
            .await
            .map(|batch| {
                bodies.extend(batch.unwrap());
            });
        put(&bus, &number.to_string()).await;
    }
    while bodies.len() < 20 {
        bodies.extend(puller.next_batch(5, SOON).await.unwrap());
    }
    let sequences: Vec<_> = bodies.iter().map(|delivery| delivery.stream_sequence).collect();
    assert_eq!(sequences, (1..=20).collect::<Vec<_>>());
    assert!(bodies.iter().all(|delivery| delivery.delivered == 1));
    puller.close().await;
}

#[tokio::test]
async fn what_a_closed_puller_held_goes_to_the_next_one_at_once() {
    let (nats, bus) = mesh().await;
    let mut first = bus.pull(intake()).await.unwrap();
    // The request stays on the server after it is given up here.
    let asked = first.next_batch(5, SOON);
    assert!(tokio::time::timeout(Duration::from_millis(200), asked).await.is_err());
    put(&bus, "held").await;
    let jetstream = async_nats::jetstream::new(stranger(&nats).await);
    let stream = jetstream.get_stream("INVOCATIONS").await.unwrap();
    let is_delivered = async || stream.consumer_info("intake").await.unwrap().num_ack_pending == 1;
    wait_until(SOON, is_delivered).await;
    // A round trip on the same connection: what was delivered before has arrived.
    bus.kv_get(Bucket::Agents, "a").await.unwrap();
    first.close().await;
    let mut second = bus.pull(intake()).await.unwrap();
    let batch = second.next_batch(5, SOON).await.unwrap();
    assert_eq!((batch.len(), batch[0].delivered), (1, 2));
}
