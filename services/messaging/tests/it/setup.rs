//! A messaging service of one test, and somebody who posts.

use std::time::Duration;

use mesh_api::messaging::{ChannelHistory, History, HistoryRequest, Message, MessagePost, PostRequest};
use mesh_api::{Caller, Endpoint};
use mesh_bus::{Bus, BusOptions, topology};
use mesh_runtime::{Context, DatabaseConfig, Metrics, Tasks};
use mesh_testkit::{TestDatabase, TestNats, wait_until};
use mesh_types::{Code, Problem};
use messaging::Config;
use serde_json::{Value, json};

pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Mesh {
    pub(crate) nats: TestNats,
    pub(crate) database: TestDatabase,
    pub(crate) bus: Bus,
    pub(crate) context: Context,
}

impl Mesh {
    /// Servers, topology and a messaging service that creates channels.
    pub(crate) async fn start() -> Self {
        Self::start_with(|config| config.auto_create_channels = true).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let (nats, database) = tokio::join!(TestNats::start(), TestDatabase::create());
        let bus = connect(&nats).await;
        bus.apply_topology(&topology::standard()).await.unwrap();
        let context = Context::new("messaging", bus, Metrics::default());
        let mesh = Self {
            bus: connect(&nats).await,
            nats,
            database,
            context,
        };
        let mut config = mesh.config();
        change(&mut config);
        mesh.serve(&mesh.context, config).await;
        mesh
    }

    pub(crate) fn config(&self) -> Config {
        let database = DatabaseConfig {
            url: self.database.url().into(),
            connections: 5,
        };
        Config {
            database,
            ..Config::default()
        }
    }

    /// Starts a messaging service and waits until it answers.
    pub(crate) async fn serve(&self, context: &Context, config: Config) {
        let run = messaging::run(config, context.clone());
        // Under tasks of the test: those of the service are drained by it.
        let tasks = Tasks::new(tracing::Span::none(), &context.metrics);
        tasks.spawn("messaging", async move { run.await.unwrap() });
        wait_until(SOON, || async {
            let answer = self.history("is-there", 1, None).await;
            answer.is_ok() || answer.is_err_and(|problem| problem.is(Code::ChannelNotFound))
        })
        .await;
    }

    pub(crate) async fn call_as<E: Endpoint>(&self, tenant: &str, request: E::Request) -> Result<E::Reply, Problem> {
        let caller = Caller {
            role: None,
            tenant: tenant.parse().unwrap(),
            actor: "user:ann".into(),
            request_id: None,
        };
        self.bus.call::<E>(&caller, &request).await
    }

    /// Posts to channel `general`; `with` adds to the request or replaces what it has.
    pub(crate) async fn post(&self, text: &str, with: Value) -> Result<Message, Problem> {
        self.call_as::<MessagePost>("default", request(text, with)).await
    }

    pub(crate) async fn history(&self, channel: &str, limit: u32, before: Option<&str>) -> Result<History, Problem> {
        self.history_as("default", channel, limit, before).await
    }

    pub(crate) async fn history_as(
        &self,
        tenant: &str,
        channel: &str,
        limit: u32,
        before: Option<&str>,
    ) -> Result<History, Problem> {
        let before = before.map(|id| id.parse().unwrap());
        let request = HistoryRequest {
            channel: channel.parse().unwrap(),
            limit,
            before,
        };
        self.call_as::<ChannelHistory>(tenant, request).await
    }

    /// Texts of the newest messages of `general`, oldest first.
    pub(crate) async fn texts(&self) -> Vec<String> {
        texts(&self.history("general", 500, None).await.unwrap())
    }
}

async fn connect(nats: &TestNats) -> Bus {
    let options = BusOptions {
        url: nats.url().into(),
        name: "test".into(),
        monitor_url: None,
        user: None,
    };
    let bus = Bus::connect(options).await.unwrap();
    assert!(bus.wait_connected(SOON).await);
    bus
}

pub(crate) fn request(text: &str, with: Value) -> PostRequest {
    let mut request = json!({"channel": "general", "author": {"kind": "user", "id": "ann"}, "text": text});
    request
        .as_object_mut()
        .unwrap()
        .extend(with.as_object().unwrap().clone());
    serde_json::from_value(request).unwrap()
}

pub(crate) fn texts(history: &History) -> Vec<String> {
    history.items.iter().map(|message| message.text.clone()).collect()
}
