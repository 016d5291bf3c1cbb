//! Restarts of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mesh_bus::{Bucket, Bus, BusOptions, Headers, Settled, topology};
use mesh_testkit::{TestNats, wait_until};
use tokio_util::sync::CancellationToken;

use crate::support::{Echo, SOON, caller, connect, invoke, mesh, text};

#[tokio::test]
async fn a_bus_may_be_made_before_its_server() {
    let nats = TestNats::start().await;
    nats.stop().await;
    let options = BusOptions {
        url: nats.url().to_owned(),
        name: "early".to_owned(),
        monitor_url: None,
        user: None,
    };
    let bus = Bus::connect(options).await.unwrap();
    assert!(!bus.is_connected());
    assert!(!bus.wait_connected(Duration::from_millis(100)).await);
    let mut bell = bus.reconnects();
    let service = bus.service("tester", "1.0.0");
    let service = service.endpoint::<Echo, _, _>(|_, what| async move { Ok(what) });
    let _service = service.start().await.unwrap();
    nats.restart().await;
    assert!(bus.wait_connected(SOON).await);
    bell.changed().await.unwrap();
    assert_eq!(bus.call::<Echo>(&caller(), &text("x")).await.unwrap(), text("x"));
}

#[tokio::test]
async fn services_consumers_and_watches_outlive_a_restart() {
    let (nats, bus) = mesh().await;
    let service = bus.service("tester", "1.0.0");
    let service = service.endpoint::<Echo, _, _>(|_, what| async move { Ok(what) });
    let _service = service.start().await.unwrap();
    let shutdown = CancellationToken::new();
    let handled = Arc::new(AtomicUsize::new(0));
    let consumed = tokio::spawn({
        let (bus, shutdown, handled) = (bus.clone(), shutdown.clone(), Arc::clone(&handled));
        async move {
            let handler = |_| {
                handled.fetch_add(1, Ordering::Relaxed);
                async { Settled::Ack }
            };
            bus.consume(topology::intake(), shutdown, handler).await
        }
    });
    let mut watch = bus.kv_watch(Bucket::Agents);
    bus.kv_put(Bucket::Agents, "default.a", "1".into()).await.unwrap();
    assert_eq!(watch.next().await.unwrap().value.unwrap(), "1");
    bus.publish_durable(&invoke(), "1", Headers::new(), "{}".into())
        .await
        .unwrap();
    wait_until(SOON, || async { handled.load(Ordering::Relaxed) == 1 }).await;

    let mut bell = bus.reconnects();
    bell.mark_unchanged();
    for round in 2..=3 {
        if round == 2 {
            nats.restart().await
        } else {
            nats.kill().await;
            nats.restart().await;
        }
        let id = round.to_string();
        bus.publish_durable(&invoke(), &id, Headers::new(), "{}".into())
            .await
            .unwrap();
        wait_until(SOON, || async { handled.load(Ordering::Relaxed) >= round }).await;
        assert_eq!(bus.call::<Echo>(&caller(), &text("x")).await.unwrap(), text("x"));
        bus.kv_put(Bucket::Agents, "default.a", id.clone().into())
            .await
            .unwrap();
        let seen = async { while watch.next().await.unwrap().value.unwrap() != id.as_bytes() {} };
        tokio::time::timeout(2 * SOON, seen).await.unwrap();
        bell.changed().await.unwrap();
    }
    shutdown.cancel();
    consumed.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_call_whose_answer_went_with_the_connection_is_asked_again() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let service = bus.service("tester", "1.0.0").endpoint::<Echo, _, _>(move |_, what| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        async move {
            if number == 0 {
                std::future::pending::<()>().await;
            }
            Ok(what)
        }
    });
    let _service = service.start().await.unwrap();
    let calling = bus.clone();
    let call = tokio::spawn(async move {
        calling
            .call_within::<Echo>(&caller(), &text("x"), Duration::from_secs(60))
            .await
    });
    wait_until(SOON, || async { asked.load(Ordering::Relaxed) == 1 }).await;
    nats.restart().await;
    let reply = tokio::time::timeout(2 * SOON, call).await.unwrap().unwrap();
    assert_eq!(reply.unwrap(), text("x"));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}
