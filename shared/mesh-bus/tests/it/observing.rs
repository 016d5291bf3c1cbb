//! Whoever observes a bus hears of each request what became of it, once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mesh_bus::{Answered, EndpointObserver, Observer};
use mesh_testkit::{TestNats, wait_until};
use mesh_types::subject::Filter;
use mesh_types::{Code, Problem};

use crate::support::{Echo, SOON, caller, connect, stranger, text};

type Heard = Arc<Mutex<Vec<String>>>;

struct Ear(Heard);

struct EndpointEar {
    heard: Heard,
    of: String,
}

impl Observer for Ear {
    fn endpoint(&self, service: &'static str, endpoint: &str) -> Arc<dyn EndpointObserver> {
        Arc::new(EndpointEar {
            heard: Arc::clone(&self.0),
            of: format!("{service}.{endpoint}"),
        })
    }

    fn buried(&self, stream: &str) {
        self.0.lock().unwrap().push(format!("{stream} buried"));
    }
}

impl EndpointObserver for EndpointEar {
    fn answered(&self, answered: Answered, took: Option<Duration>) {
        let worked = if took.is_some() { "" } else { " unseen" };
        let line = format!("{} {}{worked}", self.of, answered.as_str());
        self.heard.lock().unwrap().push(line);
    }
}

#[tokio::test]
async fn each_request_is_heard_of_once_with_what_became_of_it() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let heard = Heard::default();
    assert!(bus.set_observer(Arc::new(Ear(Arc::clone(&heard)))));
    assert!(!bus.set_observer(Arc::new(Ear(Arc::default()))), "the first one stays");
    let service = bus
        .service("tester", "1.0.0")
        .endpoint::<Echo, _, _>(|_, what| async move {
            match what.text.as_str() {
                "refuse" => Err(Problem::new(Code::InvalidRequest, "empty")),
                "busy" => Err(Problem::new(Code::Busy, "later")),
                "panic" => panic!("on purpose"),
                _ => Ok(what),
            }
        })
        .raw("call", &Filter::Calls, Some("q"), |request| async move {
            match &request.payload[..] {
                b"panic" => panic!("on purpose"),
                b"refuse" => {
                    let problem = Problem::new(Code::AgentNotFound, "nobody");
                    request.respond_problem(&problem).await.unwrap();
                }
                _ => request.respond(Bytes::from_static(b"{}")).await.unwrap(),
            }
        });
    let _service = service.start().await.unwrap();
    let expect = async |line: &str| {
        let line = line.to_owned();
        wait_until(SOON, || async { !heard.lock().unwrap().is_empty() }).await;
        assert_eq!(std::mem::take(&mut *heard.lock().unwrap()), [line]);
    };
    for (what, outcome) in [
        ("x", "ok"),
        ("refuse", "refused"),
        ("busy", "busy"),
        ("panic", "failed"),
    ] {
        let _ = bus.call::<Echo>(&caller(), &text(what)).await;
        expect(&format!("tester.echo {outcome}")).await;
    }
    let client = stranger(&nats).await;
    for (what, outcome) in [("x", "ok"), ("refuse", "refused"), ("panic", "failed")] {
        client.request("mesh.call.a.b", what.into()).await.unwrap();
        expect(&format!("tester.call {outcome}")).await;
    }
    let traffic = bus.traffic()();
    assert!(traffic.bytes_in > 0 && traffic.bytes_out > 0, "{traffic:?}");
    assert_eq!(traffic.connections, 1);
}
