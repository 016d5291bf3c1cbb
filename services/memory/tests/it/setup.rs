//! One memory service on servers of its own.

use std::sync::Arc;

use memory::Config;
use memory::embed::{Embedder, HashEmbedder};
use mesh_api::memory::{Hit, Memory, MemoryQuery, MemoryStore, QueryRequest, StoreRequest};
use mesh_api::{Caller, Endpoint};
use mesh_bus::{Bus, BusOptions};
use mesh_runtime::{Blocking, Context, Metrics, Secret};
use mesh_testkit::{TestDatabase, TestNats};
use mesh_types::{Problem, Tenant};
use serde_json::{Value, json};

pub(crate) struct Mesh {
    pub(crate) context: Context,
    pub(crate) database: TestDatabase,
    _nats: TestNats,
}

impl Mesh {
    pub(crate) async fn start() -> Self {
        let embedder = Arc::new(HashEmbedder::new(Blocking::default()));
        Self::start_with(embedder, |_| ()).await
    }

    pub(crate) async fn start_with(embedder: Arc<dyn Embedder>, change: impl FnOnce(&mut Config)) -> Self {
        let nats = TestNats::start().await;
        let database = TestDatabase::create().await;
        let options = BusOptions {
            url: nats.url().to_owned(),
            name: "memory-it".to_owned(),
            monitor_url: None,
            user: None,
        };
        let bus = Bus::connect(options).await.unwrap();
        bus.apply_topology(&mesh_bus::topology::standard()).await.unwrap();
        let context = Context::new("memory", bus, Metrics::default());
        let mut config = Config {
            embed_retry_ms: 50,
            embed_tick_ms: 50,
            ..Config::default()
        };
        config.database.url = Secret::new(database.url().to_owned());
        change(&mut config);
        let service = context.clone();
        context.tasks.spawn("memory", async move {
            memory::run_with(config, service, embedder).await.unwrap()
        });
        Self {
            context,
            database,
            _nats: nats,
        }
    }

    pub(crate) fn caller(&self, tenant: &str) -> Caller {
        Caller {
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

pub(crate) fn store(value: Value) -> StoreRequest {
    serde_json::from_value(value).unwrap()
}
