//! A registry of one test, and somebody who asks it.

use std::time::Duration;

use mesh_api::registry::{
    AgentCreate, AgentGuarded, AgentPublish, AgentUpdate, AgentUpdateRequest, AgentView, Missing, Published, TenantList,
};
use mesh_api::{Caller, Endpoint, PageQuery};
use mesh_bus::{Bus, BusOptions, topology};
use mesh_runtime::{Context, DatabaseConfig, Metrics};
use mesh_testkit::{TestDatabase, TestNats, wait_until};
use mesh_types::agent::Agent;
use mesh_types::{Problem, Tenant};
use registry::Config;
use serde_json::{Value, json};

pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Mesh {
    pub(crate) nats: TestNats,
    pub(crate) database: TestDatabase,
    pub(crate) bus: Bus,
    pub(crate) context: Context,
}

impl Mesh {
    /// Servers, topology and a registry that creates tenants.
    pub(crate) async fn start() -> Self {
        Self::start_with(|config| config.auto_create_tenants = true).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let mesh = Self::servers().await;
        let mut config = mesh.config();
        change(&mut config);
        mesh.serve(&mesh.context, config).await;
        mesh
    }

    /// Without a registry yet.
    pub(crate) async fn servers() -> Self {
        let (nats, database) = tokio::join!(TestNats::start(), TestDatabase::create());
        let bus = connect(&nats).await;
        bus.apply_topology(&topology::standard()).await.unwrap();
        let context = Context::new("registry", bus, Metrics::default());
        Self {
            bus: connect(&nats).await,
            nats,
            database,
            context,
        }
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

    /// Starts a registry and waits until it answers.
    pub(crate) async fn serve(&self, context: &Context, config: Config) {
        let run = registry::run(config, context.clone());
        // Under the test's own tasks: those of the service are drained by it.
        let tasks = mesh_runtime::Tasks::new(tracing::Span::none(), &context.metrics);
        tasks.spawn("registry", async move { run.await.unwrap() });
        wait_until(SOON, || async {
            self.call::<TenantList>(PageQuery::default()).await.is_ok()
        })
        .await;
    }

    pub(crate) async fn call<E: Endpoint>(&self, request: E::Request) -> Result<E::Reply, Problem> {
        self.call_as::<E>("default", request).await
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

    /// `mesh apply` of an llm agent with these instructions.
    pub(crate) async fn apply(&self, name: &str, instructions: &str) -> AgentView {
        let request = AgentUpdateRequest {
            agent: agent(name, instructions),
            if_match: None,
            missing: Missing::Create,
        };
        self.call::<AgentUpdate>(request).await.unwrap()
    }

    pub(crate) async fn create(&self, name: &str) -> AgentView {
        self.call::<AgentCreate>(agent(name, "You are helpful.")).await.unwrap()
    }

    pub(crate) async fn publish(&self, name: &str) -> Result<Published, Problem> {
        self.call::<AgentPublish>(guarded(name, None)).await
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

pub(crate) fn agent(name: &str, instructions: &str) -> Agent {
    declared(json!({"metadata": {"name": name}, "spec": {"instructions": instructions}}))
}

pub(crate) fn declared(value: Value) -> Agent {
    serde_json::from_value(value).unwrap()
}

pub(crate) fn guarded(name: &str, if_match: Option<&str>) -> AgentGuarded {
    AgentGuarded {
        agent: name.parse().unwrap(),
        if_match: if_match.map(str::to_owned),
    }
}

pub(crate) fn tenant(name: &str) -> Tenant {
    name.parse().unwrap()
}
