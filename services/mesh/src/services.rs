//! The services that this program serves: one table of names, configurations and entries.

use std::fmt::Display;
use std::net::SocketAddr;

use clap::ValueEnum;
use mesh_runtime::config::Entry;
use mesh_runtime::lifecycle::SuperviseError;
use mesh_runtime::{ConfigError, Context, DatabaseConfig, Loader, Restart, Secret, supervise};
use tokio::sync::Mutex;

/// A service by its one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Service {
    /// Tenants, agents, versions
    Registry,
    /// Credentials and audit facts
    Identity,
    /// What is seen of nodes
    Heartbeat,
    /// Invocations and their journal
    Execution,
    /// Channels and messages
    Messaging,
    /// Semantic memory
    Memory,
    /// The way to models
    Inference,
    /// Desired against observed
    Reconciler,
    /// HTTP API and web UI
    Gateway,
}

impl Service {
    /// All that `mesh up` serves, in the order of the documentation.
    pub(crate) const ALL: [Self; 9] = [
        Self::Registry,
        Self::Identity,
        Self::Heartbeat,
        Self::Execution,
        Self::Messaging,
        Self::Memory,
        Self::Inference,
        Self::Reconciler,
        Self::Gateway,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Identity => "identity",
            Self::Heartbeat => "heartbeat",
            Self::Execution => "execution",
            Self::Messaging => "messaging",
            Self::Memory => "memory",
            Self::Inference => "inference",
            Self::Reconciler => "reconciler",
            Self::Gateway => "gateway",
        }
    }

    pub(crate) const fn needs_database(self) -> bool {
        !matches!(self, Self::Inference | Self::Gateway)
    }

    /// Whether it answers on the bus; the gateway only asks there.
    pub(crate) const fn answers_on_bus(self) -> bool {
        !matches!(self, Self::Gateway)
    }
}

/// The configuration of every service, loaded and checked before any socket opens.
#[derive(Debug, Clone)]
pub(crate) struct Configs {
    pub(crate) registry: registry::Config,
    pub(crate) identity: identity::Config,
    pub(crate) heartbeat: heartbeat::Config,
    pub(crate) execution: execution::Config,
    pub(crate) messaging: messaging::Config,
    pub(crate) memory: memory::Config,
    pub(crate) inference: inference::Config,
    pub(crate) reconciler: reconciler::Config,
    pub(crate) gateway: gateway::Config,
    /// Of `mesh node`, which is no part of `mesh up`.
    pub(crate) node: node::Config,
}

impl Configs {
    pub(crate) fn load(loader: &Loader) -> Result<Self, ConfigError> {
        let environment = loader.environment();
        let mut configs = Self {
            registry: loader.load("registry")?,
            identity: loader.load("identity")?,
            heartbeat: loader.load("heartbeat")?,
            execution: loader.load("execution")?,
            messaging: loader.load("messaging")?,
            memory: loader.load("memory")?,
            inference: loader.load("inference")?,
            reconciler: loader.load("reconciler")?,
            gateway: loader.parse("gateway")?,
            node: loader.load("node")?,
        };
        if is_default(&loader.describe("gateway", &configs.gateway), "gateway.port") {
            configs.gateway.port = environment.http_port;
        }
        configs.require_credentials(environment.requires_credentials);
        let wrong = |error: gateway::ConfigRefused| ConfigError::Invalid {
            section: "gateway".into(),
            reason: error.to_string(),
        };
        configs.gateway.address().map_err(wrong)?;
        if let Some(url) = &environment.database_url {
            configs.use_database(url);
        }
        Ok(configs)
    }

    /// Both doors ask, or none: what one of them is told holds for the other one, too.
    fn require_credentials(&mut self, are_demanded: bool) {
        let required = are_demanded || self.gateway.require_credentials || self.identity.require_credentials;
        self.gateway.require_credentials = required;
        self.identity.require_credentials = required;
    }

    /// The demo's: what is named for the first time is created, and tools may reach this machine, unless somebody said
    /// otherwise.
    pub(crate) fn use_demo_defaults(&mut self, loader: &Loader) {
        if is_default(
            &loader.describe("execution", &self.execution),
            "execution.tools.private_networks",
        ) {
            self.execution.tools.private_networks = vec!["loopback".to_owned()];
        }
        if is_default(
            &loader.describe("registry", &self.registry),
            "registry.auto_create_tenants",
        ) {
            self.registry.auto_create_tenants = true;
        }
        if is_default(
            &loader.describe("messaging", &self.messaging),
            "messaging.auto_create_channels",
        ) {
            self.messaging.auto_create_channels = true;
        }
    }

    /// Fills in the database where a service names none of its own.
    pub(crate) fn use_database(&mut self, url: &Secret<String>) {
        for database in self.databases() {
            if database.url.is_empty() {
                database.url = url.clone();
            }
        }
    }

    fn databases(&mut self) -> [&mut DatabaseConfig; 7] {
        [
            &mut self.registry.database,
            &mut self.identity.database,
            &mut self.heartbeat.database,
            &mut self.reconciler.database,
            &mut self.execution.database,
            &mut self.messaging.database,
            &mut self.memory.database,
        ]
    }

    /// Connections that one process of each service takes at most: its pool, and one for each lane of execution.
    pub(crate) fn connections(&self) -> u32 {
        let pools = self.clone().databases().map(|database| database.connections);
        pools.iter().sum::<u32>() + u32::try_from(self.execution.lanes).unwrap_or(0)
    }

    /// The first of these services that has no database and needs one.
    pub(crate) fn lacks_database(&self, services: &[Service]) -> Option<Service> {
        let url = |service: Service| match service {
            Service::Registry => &self.registry.database.url,
            Service::Identity => &self.identity.database.url,
            Service::Heartbeat => &self.heartbeat.database.url,
            Service::Reconciler => &self.reconciler.database.url,
            Service::Execution => &self.execution.database.url,
            Service::Messaging => &self.messaging.database.url,
            _ => &self.memory.database.url,
        };
        services
            .iter()
            .copied()
            .find(|service| service.needs_database() && url(*service).is_empty())
    }

    /// Every key with its value and who set it; secrets are `***`.
    pub(crate) fn describe(&self, loader: &Loader) -> Vec<Entry> {
        [
            loader.describe("registry", &self.registry),
            loader.describe("identity", &self.identity),
            loader.describe("heartbeat", &self.heartbeat),
            loader.describe("execution", &self.execution),
            loader.describe("messaging", &self.messaging),
            loader.describe("memory", &self.memory),
            loader.describe("inference", &self.inference),
            loader.describe("reconciler", &self.reconciler),
            loader.describe("gateway", &self.gateway),
            loader.describe("node", &self.node),
        ]
        .concat()
    }
}

fn is_default(entries: &[Entry], key: &str) -> bool {
    entries
        .iter()
        .any(|entry| entry.key == key && entry.origin == "default")
}

/// Runs one service until `context.shutdown`, restarting it or not.
pub(crate) async fn run(
    service: Service,
    configs: &Configs,
    edge: Option<&Edge>,
    context: &Context,
    restart: Restart,
) -> Result<(), SuperviseError> {
    macro_rules! supervised {
        ($service:ident) => {
            supervise(context, service.name(), restart, |context| {
                let config = configs.$service.clone();
                async move { $service::run(config, context).await.map_err(Causes) }
            })
            .await
        };
    }
    match service {
        Service::Registry => supervised!(registry),
        Service::Identity => supervised!(identity),
        Service::Heartbeat => supervised!(heartbeat),
        Service::Execution => supervised!(execution),
        Service::Messaging => supervised!(messaging),
        Service::Memory => supervised!(memory),
        Service::Inference => supervised!(inference),
        Service::Reconciler => supervised!(reconciler),
        Service::Gateway => {
            let edge = edge.expect("whoever serves the gateway has bound its socket");
            supervise(context, service.name(), restart, |context| async move {
                edge.take().await.map_err(Causes)?.serve(context).await.map_err(Causes)
            })
            .await
        }
    }
}

/// An error with its causes in one line, as the supervisor logs it.
struct Causes<E>(E);

impl<E: std::error::Error> Display for Causes<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// The gateway's socket: bound before anything else starts, so that a taken port is told at once, and again at the
/// same address after a restart.
pub(crate) struct Edge {
    address: SocketAddr,
    config: gateway::Config,
    bound: Mutex<Option<gateway::Gateway>>,
}

impl Edge {
    pub(crate) async fn bind(config: gateway::Config) -> Result<Self, gateway::Error> {
        let bound = gateway::Gateway::bind(config.clone()).await?;
        let address = bound.address();
        let config = gateway::Config {
            port: address.port(),
            ..config
        };
        Ok(Self {
            address,
            config,
            bound: Mutex::new(Some(bound)),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    async fn take(&self) -> Result<gateway::Gateway, gateway::Error> {
        match self.bound.lock().await.take() {
            Some(bound) => Ok(bound),
            None => gateway::Gateway::bind(self.config.clone()).await,
        }
    }
}
