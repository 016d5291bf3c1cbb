//! Services as `nats micro` sees them, and raw endpoints.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use bytes::Bytes;
use futures::StreamExt;
use mesh_bus::Headers;
use mesh_testkit::{TestNats, wait_until};
use mesh_types::subject::Filter;
use mesh_types::{Code, Problem, Subject};
use serde_json::Value;

use crate::support::{Echo, SOON, caller, connect, stranger, text};

#[tokio::test]
async fn a_service_shows_itself_by_ping_info_and_stats() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let service = bus
        .service("tester", "1.2.3")
        .endpoint::<Echo, _, _>(|_, what| async move {
            if what.text.is_empty() {
                Err(Problem::new(Code::InvalidRequest, "empty"))
            } else {
                Ok(what)
            }
        });
    let service = service.start().await.unwrap();
    bus.call::<Echo>(&caller(), &text("x")).await.unwrap();
    bus.call::<Echo>(&caller(), &text("")).await.unwrap_err();

    let client = stranger(&nats).await;
    let ask = async |subject: String| -> Value {
        let answer = client.request(subject, Bytes::new()).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    };
    let ping = ask("$SRV.PING".to_owned()).await;
    assert_eq!(ping["type"], "io.nats.micro.v1.ping_response");
    assert_eq!(
        (ping["name"].as_str(), ping["version"].as_str()),
        (Some("tester"), Some("1.2.3"))
    );
    let info = ask("$SRV.INFO.tester".to_owned()).await;
    assert_eq!(info["type"], "io.nats.micro.v1.info_response");
    assert_eq!(info["endpoints"][0]["subject"], "mesh.svc.tester.echo");
    assert_eq!(info["endpoints"][0]["queue_group"], "q");
    let stats = ask(format!("$SRV.STATS.tester.{}", ping["id"].as_str().unwrap())).await;
    assert_eq!(stats["type"], "io.nats.micro.v1.stats_response");
    assert_eq!(stats["endpoints"][0]["num_requests"], 2);
    assert_eq!(stats["endpoints"][0]["num_errors"], 1);
    assert_eq!(stats["endpoints"][0]["last_error"], "400:mesh/invalid-request");
    assert!(
        stats["endpoints"][0]["data"]["p99_nanoseconds"].as_u64() > Some(0),
        "{stats}"
    );

    let found = bus.discover(Duration::from_secs(2)).await.unwrap();
    assert_eq!((found.len(), found[0].name.as_str()), (1, "tester"));
    assert_eq!(
        (found[0].endpoints[0].num_requests, found[0].endpoints[0].num_errors),
        (2, 1)
    );

    drop(service);
    let is_gone = async || {
        // The last request may still reach the server's subscription and no answer.
        let request = async_nats::Request::new().timeout(Some(Duration::from_millis(200)));
        let asked = client.send_request("$SRV.PING.tester", request).await;
        asked.is_err_and(|error| error.kind() == RequestErrorKind::NoResponders)
    };
    wait_until(SOON, is_gone).await;
}

#[tokio::test]
async fn a_raw_request_is_answered_many_times_later_and_by_subject() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let (sender, mut later) = tokio::sync::mpsc::unbounded_channel();
    let service = bus.service("tester", "1.0.0").raw("call", &Filter::Calls, Some("q"), {
        move |request| {
            let sender = sender.clone();
            async move { sender.send(request).unwrap() }
        }
    });
    let _service = service.start().await.unwrap();

    let client = stranger(&nats).await;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.unwrap();
    client
        .publish_with_reply("mesh.call.daarion.sofia", inbox, "hi".into())
        .await
        .unwrap();
    let request = later.recv().await.unwrap();
    let called = Subject::Call {
        tenant: "daarion".parse().unwrap(),
        agent: "sofia".parse().unwrap(),
    };
    assert_eq!(request.subject.parse::<Subject>().unwrap(), called);
    assert_eq!(request.payload, "hi");
    request.respond("one".into()).await.unwrap();
    request.respond("two".into()).await.unwrap();
    request
        .respond_problem(&Problem::new(Code::Cancelled, "enough"))
        .await
        .unwrap();
    assert_eq!(answers.next().await.unwrap().payload, "one");
    assert_eq!(answers.next().await.unwrap().payload, "two");
    let last = answers.next().await.unwrap();
    assert_eq!(
        last.headers.unwrap().get("Nats-Service-Error-Code").unwrap().as_str(),
        "409"
    );
}

#[tokio::test]
async fn a_raw_handler_that_panics_is_internal_and_the_rest_goes_on() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let service = bus
        .service("tester", "1.0.0")
        .raw("call", &Filter::Calls, None, |request| async move {
            assert_ne!(request.payload, "bad");
            request.respond(request.payload.clone()).await.unwrap();
        });
    let _service = service.start().await.unwrap();
    let client = stranger(&nats).await;
    wait_until(SOON, async || {
        client.request("mesh.call.a.b", "ok".into()).await.is_ok()
    })
    .await;
    let answer = client.request("mesh.call.a.b", "bad".into()).await.unwrap();
    assert!(
        serde_json::from_slice::<Problem>(&answer.payload)
            .unwrap()
            .is(Code::Internal)
    );
    let call = Subject::Call {
        tenant: "a".parse().unwrap(),
        agent: "b".parse().unwrap(),
    };
    let ask = |body: &'static str| bus.request(&call, Headers::new(), body.into(), SOON);
    assert_eq!(ask("ok").await.unwrap().payload, "ok");
    assert!(ask("bad").await.unwrap_err().is(Code::Internal));
}

#[tokio::test]
async fn a_core_subscription_hears_what_is_published_with_its_headers() {
    let nats = TestNats::start().await;
    let (bus, other) = (connect(&nats).await, connect(&nats).await);
    let bell = Subject::Bell {
        node: "n1".parse().unwrap(),
    };
    let mut heard = other.subscribe(&Filter::Only(bell.clone())).await.unwrap();
    let mut headers = Headers::new();
    headers.insert(Headers::MESH_TENANT, "daarion");
    bus.publish_with(&bell, headers, "ding".into()).await.unwrap();
    bus.publish(&bell, "dong".into()).await.unwrap();
    let first = tokio::time::timeout(SOON, heard.next()).await.unwrap().unwrap();
    assert_eq!(
        (first.subject.as_str(), &first.payload[..]),
        ("mesh.bell.n1", &b"ding"[..])
    );
    assert_eq!(first.headers.get(Headers::MESH_TENANT), Some("daarion"));
    let second = heard.next().await.unwrap();
    assert!(second.headers.is_empty() && second.payload == "dong");
}
