//! All services in one process: prepared, started, watched until they answer, drained from the edge inwards.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use mesh_bus::{Bus, BusOptions, LazySync, topology};
use mesh_runtime::config::Environment;
use mesh_runtime::{Context, Metrics, Restart};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::services::{self, Configs, Edge, Service};

use super::servers::Servers;

/// How long the services may take to answer; a first start on a slow disk takes some seconds.
const ANSWERING_DEADLINE: Duration = Duration::from_secs(60);
const LISTEN: Duration = Duration::from_millis(50);
/// Of each of three tiers; all of them within the deadline of a stop.
const DRAIN: Duration = Duration::from_secs(12);

pub(super) struct Stack {
    configs: Arc<Configs>,
    edge: Arc<Edge>,
    database_url: mesh_runtime::Secret<String>,
    /// Of the process and of the gateway: cancelled first.
    pub(super) context: Context,
    /// Of `execution`: cancelled when the gateway has drained.
    execution: Context,
    /// Of all others: cancelled when no invocation runs that could need them.
    inner: Context,
}

impl Stack {
    pub(super) async fn new(
        mut configs: Configs,
        edge: Edge,
        servers: &Servers,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        configs.use_database(&servers.database_url);
        let bus = Bus::connect(BusOptions {
            url: servers.nats_url.clone(),
            name: "mesh".into(),
            monitor_url: servers.monitor_url.clone(),
            user: None,
        })
        .await?;
        let mut context = Context::new("mesh", bus, metrics);
        let tier = || Context {
            shutdown: CancellationToken::new(),
            ..context.for_service("mesh")
        };
        let (execution, inner) = (tier(), tier());
        context.shutdown = shutdown;
        Ok(Self {
            configs: Arc::new(configs),
            edge: Arc::new(edge),
            database_url: servers.database_url.clone(),
            context,
            execution,
            inner,
        })
    }

    /// Whether nobody gets in without a credential.
    pub(super) fn requires_credentials(&self) -> bool {
        self.configs.gateway.require_credentials
    }

    /// Schema and streams, both at once.
    pub(super) async fn prepare(&self, environment: &Environment) -> anyhow::Result<()> {
        let migrate = async {
            let migrated = mesh_store::migrate(self.database_url.expose()).await;
            migrated
                .map(drop)
                .context("the database's schema could not be brought up to date")
        };
        let topology = prepare_bus(&self.context.bus, environment);
        tokio::try_join!(migrate, topology).map(drop)
    }

    pub(super) fn start_services(&self, environment: &Environment) {
        keep_streams(&self.inner, environment.nats_replicas);
        let behind = Service::ALL.into_iter().filter(|service| service.answers_on_bus());
        behind.for_each(|service| {
            let tier = match service {
                Service::Execution => &self.execution,
                _ => &self.inner,
            };
            self.start(service, tier.clone());
        });
    }

    /// Last: whoever reaches the gateway finds everything behind it.
    pub(super) fn start_gateway(&self) {
        self.start(Service::Gateway, self.context.clone());
    }

    fn start(&self, service: Service, context: Context) {
        let (configs, edge) = (Arc::clone(&self.configs), Arc::clone(&self.edge));
        let tasks = context.tasks.clone();
        tasks.spawn(service.name(), async move {
            let ended = services::run(service, &configs, Some(&edge), &context, Restart::WithBackoff).await;
            if let Err(error) = ended {
                tracing::error!(service = service.name(), %error, "a service did not stop in order");
            }
        });
    }

    /// Until each service has been heard on the bus.
    pub(super) async fn wait_until_answering(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + ANSWERING_DEADLINE;
        loop {
            let heard = self.context.bus.discover(LISTEN).await?;
            let heard: BTreeSet<_> = heard.iter().map(|service| service.name.as_str()).collect();
            let on_bus = Service::ALL.into_iter().filter(|service| service.answers_on_bus());
            let missing: Vec<_> = on_bus.map(Service::name).filter(|name| !heard.contains(name)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!(
                    "no answer from {} within {} s: mesh logs says why",
                    missing.join(", "),
                    ANSWERING_DEADLINE.as_secs()
                );
            }
        }
    }

    /// Until every probe is well.
    pub(super) async fn wait_until_healthy(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + ANSWERING_DEADLINE;
        loop {
            let report = self.context.health.check().await;
            if report.is_ok() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let failing = report.failing.iter();
                let failing: Vec<_> = failing
                    .map(|one| format!("{} ({}: {})", one.service, one.probe, one.reason))
                    .collect();
                bail!(
                    "not healthy within {} s: {}",
                    ANSWERING_DEADLINE.as_secs(),
                    failing.join(", ")
                );
            }
            tokio::time::sleep(LISTEN).await;
        }
    }

    /// From the edge inwards: what requests and then invocations have in hand needs those behind them.
    pub(super) async fn stop(&self) {
        for tier in [&self.context, &self.execution, &self.inner] {
            tier.shutdown.cancel();
            tier.tasks.drain(DRAIN).await;
        }
    }
}

pub(crate) fn lazy_sync(environment: &Environment) -> LazySync {
    if environment.allows_lazy_sync {
        LazySync::Allow
    } else {
        LazySync::Refuse
    }
}

/// The server forgets its streams in memory at each restart: they are made again.
pub(crate) fn keep_streams(context: &Context, replicas: u32) {
    let (bus, shutdown) = (context.bus.clone(), context.shutdown.clone());
    context.tasks.spawn("keep-streams", async move {
        bus.keep_topology(&topology::replicated(replicas), shutdown).await;
    });
}

/// Refuses a server that may lose what it acknowledged; then creates or changes what the topology says.
pub(crate) async fn prepare_bus(bus: &Bus, environment: &Environment) -> anyhow::Result<()> {
    let facts = bus.check_server(lazy_sync(environment)).await?;
    tracing::info!(version = facts.version, sync_always = ?facts.sync_always, "nats-server is fit");
    let applied = bus
        .apply_topology(&topology::replicated(environment.nats_replicas))
        .await?;
    tracing::info!(items = applied.len(), "the topology is applied");
    Ok(())
}
