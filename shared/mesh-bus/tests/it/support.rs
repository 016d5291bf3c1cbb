//! A bus on a server of its own, endpoints for tests, and a client that is not ours.

use std::time::Duration;

use mesh_api::{Access, Caller, Endpoint, StreamEndpoint};
use mesh_bus::{Bus, BusOptions, topology};
use mesh_testkit::TestNats;
use mesh_types::{Subject, Tenant};
use serde::{Deserialize, Serialize};

pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) async fn connect(nats: &TestNats) -> Bus {
    connect_with(nats, |_| {}).await
}

pub(crate) async fn connect_with(nats: &TestNats, change: impl FnOnce(&mut BusOptions)) -> Bus {
    let mut options = BusOptions {
        url: nats.url().to_owned(),
        name: "test".to_owned(),
        monitor_url: Some(nats.monitor_url().to_owned()),
        user: None,
    };
    change(&mut options);
    let bus = Bus::connect(options).await.unwrap();
    assert!(bus.wait_connected(SOON).await);
    bus
}

/// A server with the standard topology, and a bus on it.
pub(crate) async fn mesh() -> (TestNats, Bus) {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    bus.apply_topology(&topology::standard()).await.unwrap();
    (nats, bus)
}

/// A client as users have it.
pub(crate) async fn stranger(nats: &TestNats) -> async_nats::Client {
    async_nats::connect(nats.url()).await.unwrap()
}

/// Until the server has taken all that the client sent: its own flush does not wait for that.
pub(crate) async fn round_trip(client: &async_nats::Client) {
    let nobody = client.request("nobody.listens", "".into()).await;
    assert_eq!(nobody.unwrap_err().kind(), async_nats::RequestErrorKind::NoResponders);
}

pub(crate) fn caller() -> Caller {
    let mut caller = Caller::service("test", "daarion".parse::<Tenant>().unwrap());
    caller.request_id = Some("req_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap());
    caller
}

pub(crate) fn invoke() -> Subject {
    Subject::Invoke {
        tenant: "daarion".parse().unwrap(),
        agent: "sofia".parse().unwrap(),
    }
}

pub(crate) fn event(id: &str) -> Subject {
    Subject::Event {
        tenant: "daarion".parse().unwrap(),
        kind: "agent".parse().unwrap(),
        id: id.parse().unwrap(),
        verb: "created".parse().unwrap(),
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Text {
    pub(crate) text: String,
}

pub(crate) fn text(text: &str) -> Text {
    Text { text: text.to_owned() }
}

macro_rules! endpoint {
    ($name:ident, $subject:literal, $deadline_ms:literal, $repeatable:literal) => {
        pub(crate) struct $name;
        impl Endpoint for $name {
            const SERVICE: &'static str = "tester";
            const NAME: &'static str = $subject;
            type Request = Text;
            type Reply = Text;
            const DEADLINE: Duration = Duration::from_millis($deadline_ms);
            const ACCESS: Access = Access::Viewer;
            const REPEATABLE: bool = $repeatable;
        }
    };
}

endpoint!(Echo, "echo", 5_000, true);
endpoint!(Once, "once", 300, false);
endpoint!(Tell, "tell", 5_000, true);

impl StreamEndpoint for Tell {
    type Chunk = Text;
}
