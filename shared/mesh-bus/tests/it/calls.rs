//! Request/reply: answers, problems, silence, streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mesh_api::Endpoint;
use mesh_bus::Bus;
use mesh_testkit::{TestNats, wait_until};
use mesh_types::{Code, Problem, Subject};
use tokio::sync::Notify;

use crate::support::{Echo, Once, SOON, Tell, caller, connect, stranger, text};

#[tokio::test]
async fn a_call_comes_back_with_who_asked_and_what() {
    let nats = TestNats::start().await;
    let (server, client) = (connect(&nats).await, connect(&nats).await);
    let service = server
        .service("tester", "1.2.3")
        .endpoint::<Echo, _, _>(|who, what| async move {
            assert_eq!(who, caller());
            Ok(text(&format!("{} said {}", who.tenant, what.text)))
        });
    let _service = service.start().await.unwrap();
    let reply = client.call::<Echo>(&caller(), &text("hello")).await.unwrap();
    assert_eq!(reply, text("daarion said hello"));
}

#[tokio::test]
async fn a_problem_comes_back_as_it_was() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let refused = Problem::new(Code::AgentNotFound, "no agent `x`")
        .field("agent")
        .next("mesh get");
    let told = refused.clone();
    let service = bus.service("tester", "1.0.0").endpoint::<Echo, _, _>(move |_, _| {
        let told = told.clone();
        async move { Err(told) }
    });
    let _service = service.start().await.unwrap();
    assert_eq!(bus.call::<Echo>(&caller(), &text("")).await.unwrap_err(), refused);

    // A client that is not ours sees the two headers and the same body.
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Mesh-Tenant", "daarion");
    headers.insert("Mesh-Actor", "user:ann");
    let subject = Echo::subject().to_string();
    let request = stranger(&nats).await;
    let answer = request
        .request_with_headers(subject, headers, r#"{"text":""}"#.into())
        .await
        .unwrap();
    let headers = answer.headers.unwrap();
    assert_eq!(headers.get("Nats-Service-Error-Code").unwrap().as_str(), "404");
    assert!(headers.get("Nats-Service-Error").is_some());
    assert_eq!(serde_json::from_slice::<Problem>(&answer.payload).unwrap(), refused);
}

#[tokio::test]
async fn a_request_that_is_none_is_refused_by_name() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let service = bus
        .service("tester", "1.0.0")
        .endpoint::<Echo, _, _>(|_, what| async move { Ok(what) });
    let _service = service.start().await.unwrap();
    let client = stranger(&nats).await;
    let subject = Echo::subject().to_string();
    let ask = async |tenant: Option<&str>, body: &'static str| {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Mesh-Actor", "user:ann");
        if let Some(tenant) = tenant {
            headers.insert("Mesh-Tenant", tenant);
        }
        let answer = client
            .request_with_headers(subject.clone(), headers, body.into())
            .await
            .unwrap();
        serde_json::from_slice::<Problem>(&answer.payload).unwrap()
    };
    assert!(ask(Some("daarion"), "{").await.is(Code::MalformedJson));
    let problem = ask(Some("daarion"), "{}").await;
    assert!(
        problem.is(Code::InvalidRequest) && problem.detail.contains("text"),
        "{problem:?}"
    );
    assert_eq!(ask(None, r#"{"text":"x"}"#).await.field.as_deref(), Some("Mesh-Tenant"));
    assert!(ask(Some("*"), r#"{"text":"x"}"#).await.is(Code::InvalidName));
    // And the next good one works.
    assert_eq!(bus.call::<Echo>(&caller(), &text("ok")).await.unwrap(), text("ok"));
}

#[tokio::test]
async fn nobody_there_is_unavailable_after_a_while_but_at_once_for_one_instance() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let started = Instant::now();
    let subject = Subject::Execution {
        instance: "ins_1".parse().unwrap(),
        command: "accept".parse().unwrap(),
    };
    let problem = bus
        .call_at::<Echo>(&subject, &caller(), &text(""), SOON)
        .await
        .unwrap_err();
    assert!(problem.is(Code::Unavailable), "{problem:?}");
    let at_once = started.elapsed();
    let problem = bus.call::<Echo>(&caller(), &text("")).await.unwrap_err();
    assert!(problem.is(Code::Unavailable), "{problem:?}");
    let patience = started.elapsed() - at_once;
    assert!(patience >= Duration::from_millis(1_900), "{patience:?}");
    assert!(at_once < patience, "{at_once:?}");
}

#[tokio::test]
async fn a_service_that_starts_late_is_waited_for() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let asking = bus.clone();
    let asked = async move { asking.call::<Echo>(&caller(), &text("early")).await };
    let started = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let service = bus.service("tester", "1.0.0");
        service
            .endpoint::<Echo, _, _>(|_, what| async move { Ok(what) })
            .start()
            .await
            .unwrap()
    };
    let (reply, _service) = tokio::join!(asked, started);
    assert_eq!(reply.unwrap(), text("early"));
}

#[tokio::test]
async fn a_panic_in_a_handler_is_internal_and_the_next_request_works() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let service = bus
        .service("tester", "1.0.0")
        .endpoint::<Echo, _, _>(|_, what| async move {
            assert_ne!(what.text, "secret", "the secret must not leave");
            Ok(what)
        });
    let _service = service.start().await.unwrap();
    let problem = bus.call::<Echo>(&caller(), &text("secret")).await.unwrap_err();
    assert!(
        problem.is(Code::Internal) && !problem.detail.contains("secret"),
        "{problem:?}"
    );
    assert_eq!(bus.call::<Echo>(&caller(), &text("ok")).await.unwrap(), text("ok"));
}

#[tokio::test]
async fn silence_is_a_timeout_at_the_deadline() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let service = bus
        .service("tester", "1.0.0")
        .endpoint::<Once, _, _>(|_, _| async { std::future::pending().await });
    let _service = service.start().await.unwrap();
    let problem = bus.call::<Once>(&caller(), &text("")).await.unwrap_err();
    assert!(problem.is(Code::Timeout), "{problem:?}");
    let within = Duration::from_millis(50);
    let problem = bus.call_within::<Once>(&caller(), &text(""), within).await.unwrap_err();
    assert!(
        problem.is(Code::Timeout) && problem.detail.contains("50ms"),
        "{problem:?}"
    );
}

#[tokio::test]
async fn what_is_over_the_limit_is_told_busy_and_a_drain_finishes_the_rest() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let gate = Arc::new(Notify::new());
    let begun = Arc::new(AtomicUsize::new(0));
    let (open, count) = (Arc::clone(&gate), Arc::clone(&begun));
    let service = bus
        .service("tester", "1.0.0")
        .concurrency(1)
        .endpoint::<Echo, _, _>(move |_, what| {
            let (open, count) = (Arc::clone(&open), Arc::clone(&count));
            async move {
                count.fetch_add(1, Ordering::Relaxed);
                open.notified().await;
                Ok(what)
            }
        });
    let service = service.start().await.unwrap();
    let ask = |bus: &Bus| {
        let bus = bus.clone();
        tokio::spawn(async move { bus.call::<Echo>(&caller(), &text("x")).await })
    };
    // One in work and four waiting are taken; the sixth and seventh are not.
    let asked: Vec<_> = (0..7).map(|_| ask(&bus)).collect();
    wait_until(SOON, || async {
        asked.iter().filter(|task| task.is_finished()).count() == 2
    })
    .await;
    assert_eq!(begun.load(Ordering::Relaxed), 1);
    let drained = tokio::spawn(service.drain(SOON));
    let mut busy = 0;
    for task in asked {
        gate.notify_one();
        match task.await.unwrap() {
            Ok(reply) => assert_eq!(reply, text("x")),
            Err(problem) => {
                assert!(problem.is(Code::Busy), "{problem:?}");
                busy += 1;
            }
        }
        gate.notify_one();
    }
    assert_eq!(busy, 2);
    drained.await.unwrap();
    let gone = bus.call_at::<Echo>(&Echo::subject(), &caller(), &text("x"), SOON).await;
    assert!(gone.unwrap_err().is(Code::Unavailable));
}

#[tokio::test]
async fn chunks_come_in_order_before_the_reply() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let service = bus
        .service("tester", "1.0.0")
        .stream_endpoint::<Tell, _, _>(|_, what, sink| async move {
            for word in what.text.split(' ') {
                sink.send(text(word)).await?;
            }
            if what.text.contains("fail") {
                return Err(Problem::new(Code::ModelFailed, "the provider is gone"));
            }
            Ok(what)
        });
    let _service = service.start().await.unwrap();
    let mut words = Vec::new();
    let asked = text("one two three");
    let reply = bus
        .call_stream::<Tell>(&caller(), &asked, |word| words.push(word.text))
        .await;
    assert_eq!(reply.unwrap(), asked);
    assert_eq!(words, ["one", "two", "three"]);

    let mut words = 0;
    let asked = text("then fail");
    let reply = bus.call_stream::<Tell>(&caller(), &asked, |_| words += 1).await;
    assert!(reply.unwrap_err().is(Code::ModelFailed));
    assert_eq!(words, 2);
}

#[tokio::test]
async fn a_stream_that_nobody_serves_is_unavailable() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let reply = bus.call_stream::<Tell>(&caller(), &text(""), |_| {}).await;
    assert!(reply.unwrap_err().is(Code::Unavailable));
}
