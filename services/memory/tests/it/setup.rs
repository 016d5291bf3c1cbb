//! One memory service on servers of its own.

use std::sync::Arc;
use std::time::Duration;

use memory::Config;
use memory::embed::{Embedder, HashEmbedder};
use mesh_api::memory::{Hit, Memory, MemoryQuery, MemoryStore, QueryRequest, StoreRequest};
use mesh_api::{Caller, Endpoint};
use mesh_bus::{Bus, BusOptions};
use mesh_runtime::tasks::Drained;
use mesh_runtime::{Blocking, Context, Metrics, Secret};
use mesh_testkit::{TestDatabase, TestNats};
use mesh_types::{Problem, Tenant};
use serde_json::{Value, json};

pub(crate) struct Mesh {
    pub(crate) context: Context,
    pub(crate) database: TestDatabase,
    nats: TestNats,
}

impl Mesh {
    pub(crate) async fn start() -> Self {
        let embedder = Arc::new(HashEmbedder::new(Blocking::default()));
        Self::start_with(embedder, |_| ()).await
    }

    /// With the local model, as `mesh up` starts it.
    pub(crate) async fn start_local() -> Self {
        // The first test that asks may have to fetch them.
        let weights = tokio::task::spawn_blocking(mesh_testkit::embedder_weights)
            .await
            .unwrap();
        Self::launch(None, |config| config.embedding_weights = Some(weights)).await
    }

    pub(crate) async fn start_with(embedder: Arc<dyn Embedder>, change: impl FnOnce(&mut Config)) -> Self {
        Self::launch(Some(embedder), change).await
    }

    /// With the embedder that the configuration means.
    pub(crate) async fn start_as_configured(change: impl FnOnce(&mut Config)) -> Self {
        Self::launch(None, change).await
    }

    /// What a service on these servers is configured with.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config {
            embed_retry_ms: 50,
            embed_tick_ms: 50,
            reembed_tick_ms: 50,
            ..Config::default()
        };
        config.database.url = Secret::new(self.database.url().to_owned());
        config
    }

    /// Stops the service, and starts another one on the same servers.
    pub(crate) async fn serve_instead(&mut self, embedder: Arc<dyn Embedder>, change: impl FnOnce(&mut Config)) {
        self.context.shutdown.cancel();
        assert_eq!(self.context.tasks.drain(Duration::from_secs(20)).await, Drained::Clean);
        self.context = connect(&self.nats).await;
        let mut config = self.config();
        change(&mut config);
        let service = self.context.for_service("memory");
        self.context.tasks.spawn("memory", async move {
            memory::run_with(config, service, embedder).await.unwrap();
        });
    }

    /// Without an embedder, with the one that the configuration means.
    async fn launch(embedder: Option<Arc<dyn Embedder>>, change: impl FnOnce(&mut Config)) -> Self {
        let nats = TestNats::start().await;
        let database = TestDatabase::create().await;
        let context = connect(&nats).await;
        let mut config = Config {
            embed_retry_ms: 50,
            embed_tick_ms: 50,
            ..Config::default()
        };
        config.database.url = Secret::new(database.url().to_owned());
        change(&mut config);
        // Its tasks are its own: it waits for them when it stops.
        let service = context.for_service("memory");
        context.tasks.spawn("memory", async move {
            match embedder {
                Some(embedder) => memory::run_with(config, service, embedder).await.unwrap(),
                None => memory::run(config, service).await.unwrap(),
            }
        });
        Self {
            context,
            database,
            nats,
        }
    }

    pub(crate) fn caller(&self, tenant: &str) -> Caller {
        Caller {
            role: None,
            tenant: tenant.parse::<Tenant>().unwrap(),
            actor: "user:ann".to_owned(),
            request_id: None,
        }
    }

    /// Asks in tenant `default`.
    pub(crate) async fn ask<E: Endpoint>(&self, request: E::Request) -> Result<E::Reply, Problem> {
        self.context.bus.call::<E>(&self.caller("default"), &request).await
    }

    pub(crate) async fn store(&self, content: &str) -> Memory {
        self.ask::<MemoryStore>(store(json!({"agent": "sofia", "content": content})))
            .await
            .unwrap()
    }

    pub(crate) async fn query(&self, request: Value) -> Vec<Hit> {
        let request: QueryRequest = serde_json::from_value(request).unwrap();
        self.ask::<MemoryQuery>(request).await.unwrap().items
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.context.shutdown.cancel();
    }
}

async fn connect(nats: &TestNats) -> Context {
    let options = BusOptions {
        url: nats.url().to_owned(),
        name: "memory-it".to_owned(),
        monitor_url: None,
        user: None,
    };
    let bus = Bus::connect(options).await.unwrap();
    bus.apply_topology(&mesh_bus::topology::standard()).await.unwrap();
    Context::new("memory", bus, Metrics::default())
}

pub(crate) fn store(value: Value) -> StoreRequest {
    serde_json::from_value(value).unwrap()
}
