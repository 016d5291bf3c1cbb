//! Callers that drop a streamed call: its handler is dropped, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mesh_api::Endpoint;
use mesh_bus::Headers;
use mesh_testkit::{TestNats, wait_until};
use mesh_types::Subject;
use tokio::sync::Notify;

use crate::support::{SOON, Tell, caller, connect, round_trip, stranger, text};

/// Counts handlers that run, whichever way they end.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn enter(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_dropped_call_drops_its_handler_and_no_other() {
    let nats = TestNats::start().await;
    let (here, there) = (connect(&nats).await, connect(&nats).await);
    let running = Arc::new(AtomicUsize::new(0));
    let (count, open) = (Arc::clone(&running), Arc::new(Notify::new()));
    let gate = Arc::clone(&open);
    let service = there
        .service("tester", "1.0.0")
        .concurrency(2)
        .stream_endpoint::<Tell, _, _>(move |_, what, sink| {
            let (count, gate) = (Arc::clone(&count), Arc::clone(&gate));
            async move {
                let _running = Running::enter(&count);
                sink.send(text("begun")).await?;
                gate.notified().await;
                Ok(what)
            }
        });
    let service = service.start().await.unwrap();
    let ask = |what: &'static str| {
        let bus = here.clone();
        tokio::spawn(async move { bus.call_stream::<Tell>(&caller(), &text(what), |_| {}).await })
    };
    let (kept, left) = (ask("kept"), ask("left"));
    wait_until(SOON, || async { running.load(Ordering::Relaxed) == 2 }).await;
    // It waits for a slot when its caller leaves: it must never begin.
    let queued = ask("queued");
    here.flush().await.unwrap();
    queued.abort();
    assert!(queued.await.unwrap_err().is_cancelled());
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    wait_until(SOON, || async { running.load(Ordering::Relaxed) == 1 }).await;
    open.notify_one();
    assert_eq!(kept.await.unwrap().unwrap(), text("kept"));
    service.drain(SOON).await;
    assert_eq!(running.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_caller_that_leaves_while_the_service_drains_is_heard() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let begun = Arc::new(Notify::new());
    let tell = Arc::clone(&begun);
    let service = bus
        .service("tester", "1.0.0")
        .stream_endpoint::<Tell, _, _>(move |_, _, _| {
            tell.notify_one();
            std::future::pending()
        });
    let service = service.start().await.unwrap();
    let asked = {
        let bus = bus.clone();
        tokio::spawn(async move { bus.call_stream::<Tell>(&caller(), &text("x"), |_| {}).await })
    };
    begun.notified().await;
    let drained = tokio::spawn(service.drain(SOON * 6));
    asked.abort();
    tokio::time::timeout(SOON, drained).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_handler_sees_whether_its_caller_is_there() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let answered = Arc::new(Notify::new());
    let gate = Arc::clone(&answered);
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let service = bus
        .service("tester", "1.0.0")
        .stream_endpoint::<Tell, _, _>(move |_, what, sink| {
            let (gate, tell) = (Arc::clone(&gate), tell.clone());
            async move {
                if what.text == "later" {
                    gate.notified().await;
                }
                tell.send(sink.is_awaited().await).unwrap();
                sink.send(text("chunk")).await?;
                Ok(what)
            }
        });
    let _service = service.start().await.unwrap();
    let mut chunks = Vec::new();
    let (who, asked) = (caller(), text("x"));
    let reply = bus.call_stream::<Tell>(&who, &asked, |chunk| chunks.push(chunk));
    assert_eq!(reply.await.unwrap(), asked);
    assert_eq!(chunks, [text("chunk")], "the question is no chunk");
    assert!(told.recv().await.unwrap());

    let died = stranger(&nats).await;
    let inbox = died.new_inbox();
    let heard = died.subscribe(inbox.clone()).await.unwrap();
    let headers = Headers::of_caller(&caller());
    let mut map = async_nats::HeaderMap::new();
    headers.iter().for_each(|(name, value)| map.insert(name, value));
    died.publish_with_reply_and_headers(Tell::subject().to_string(), inbox, map, r#"{"text":"later"}"#.into())
        .await
        .unwrap();
    drop(heard);
    round_trip(&died).await;
    answered.notify_one();
    assert!(!told.recv().await.unwrap());
}

#[tokio::test]
async fn a_node_leaves_by_its_own_road_and_only_its_own_calls() {
    let nats = TestNats::start().await;
    let (here, there) = (connect(&nats).await, connect(&nats).await);
    let running = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&running);
    let service = there
        .service("tester", "1.0.0")
        .node_stream_endpoint::<Tell, _, _>(move |node, what, sink| {
            let count = Arc::clone(&count);
            async move {
                let _running = Running::enter(&count);
                sink.send(text(node.as_str())).await?;
                if what.text == "wait" {
                    std::future::pending::<()>().await;
                }
                Ok(what)
            }
        });
    let _service = service.start().await.unwrap();
    let road = |node: &str| Subject::NodeService {
        node: node.parse().unwrap(),
        service: Tell::SERVICE.parse().unwrap(),
        endpoint: Tell::NAME.parse().unwrap(),
    };
    let mut chunks = Vec::new();
    let (first, who, asked) = (road("n1"), caller(), text("x"));
    let reply = here.call_stream_at::<Tell>(&first, &who, &asked, |chunk| chunks.push(chunk));
    assert_eq!(reply.await.unwrap(), asked);
    assert_eq!(chunks, [text("n1")], "who asks stands in the subject");
    let ask = |node: &str| {
        let (bus, road) = (here.clone(), road(node));
        tokio::spawn(async move {
            bus.call_stream_at::<Tell>(&road, &caller(), &text("wait"), |_| {})
                .await
        })
    };
    let mut heard = stranger(&nats).await.subscribe("mesh.*.*.>").await.unwrap();
    let (kept, left) = (ask("n1"), ask("n2"));
    wait_until(SOON, || async { running.load(Ordering::Relaxed) == 2 }).await;
    left.abort();
    wait_until(SOON, || async { running.load(Ordering::Relaxed) == 1 }).await;
    assert!(!kept.is_finished());
    kept.abort();
    wait_until(SOON, || async { running.load(Ordering::Relaxed) == 0 }).await;
    // A node may publish nothing else than on its own road.
    while let Some(Some(message)) = futures::FutureExt::now_or_never(futures::StreamExt::next(&mut heard)) {
        assert!(message.subject.starts_with("mesh.node."), "{}", message.subject);
    }
}
