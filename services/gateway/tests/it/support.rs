//! A started edge and its client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gateway::{Config, Gateway};
use mesh_bus::{Bus, BusOptions, ServiceHandle};
use mesh_runtime::{Context, Metrics};
use mesh_testkit::TestNats;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::world::World;

pub(crate) struct Edge {
    pub(crate) world: Arc<World>,
    pub(crate) bus: Bus,
    pub(crate) context: Context,
    pub(crate) address: SocketAddr,
    pub(crate) client: reqwest::Client,
    /// What `serve` returned.
    pub(crate) served: oneshot::Receiver<Result<(), gateway::Error>>,
    _services: Vec<ServiceHandle>,
    nats: TestNats,
}

impl Edge {
    pub(crate) async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    /// On a free port whatever the configuration says.
    pub(crate) async fn start_with(config: Config) -> Self {
        let nats = TestNats::start().await;
        let options = BusOptions {
            url: nats.url().to_owned(),
            name: "gateway-test".into(),
            monitor_url: None,
            user: None,
        };
        let bus = Bus::connect(options).await.unwrap();
        assert!(bus.wait_connected(Duration::from_secs(10)).await);
        let world = Arc::new(World::default());
        let services = world.serve(&bus).await;
        let context = Context::new("gateway", bus.clone(), Metrics::default());
        let gateway = Gateway::bind(Config { port: 0, ..config }).await.unwrap();
        let address = gateway.address();
        let (tell, served) = oneshot::channel();
        let serving = context.clone();
        context.tasks.spawn("edge", async move {
            let _ = tell.send(gateway.serve(serving).await);
        });
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()
            .unwrap();
        Self {
            world,
            bus,
            context,
            address,
            client,
            served,
            _services: services,
            nats,
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    /// The bus loses its server and finds it again.
    pub(crate) async fn restart_nats(&self) {
        self.nats.restart().await;
        assert!(self.bus.wait_connected(Duration::from_secs(20)).await);
    }

    /// Drops all that a stream holds, as its limits do with what is old.
    pub(crate) async fn purge(&self, stream: &str) {
        let client = async_nats::connect(self.nats.url()).await.unwrap();
        let stream = async_nats::jetstream::new(client).get_stream(stream).await.unwrap();
        stream.purge().await.unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.request(Method::POST, path).json(body)
    }

    /// Waits until a request to the agent `slow` has reached its service.
    pub(crate) async fn slow_request_arrives(&self) {
        let arrived = || async { self.world.slow_arrived.load(Ordering::SeqCst) > 0 };
        mesh_testkit::wait_until(Duration::from_secs(30), arrived).await;
    }

    /// Declares `sofia`.
    pub(crate) async fn declare_sofia(&self) -> Response {
        let body = serde_json::json!({"metadata": {"name": "sofia"}, "spec": {"instructions": "You are Sofia"}});
        let response = self.post("/api/v1/agents", &body).send().await.unwrap();
        assert_eq!(response.status(), 201);
        response
    }
}

/// The problem of a failed answer, checked to be one.
pub(crate) async fn problem(response: Response) -> Value {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let text = response.text().await.unwrap();
    assert!(status >= 400, "{status} {text}");
    assert_eq!(headers["content-type"], "application/problem+json", "{text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["status"], status);
    assert_eq!(body["request_id"], headers["x-request-id"].to_str().unwrap());
    for name in ["type", "title", "detail"] {
        assert!(
            body[name].as_str().is_some_and(|text| !text.is_empty()),
            "{name} of {body}"
        );
    }
    body
}

pub(crate) async fn json_of(response: Response) -> Value {
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{status} {text}");
    serde_json::from_str(&text).unwrap()
}
