//! `mesh serve`: some services in this process, against servers that somebody else runs. Any start order; one that
//! ends takes the process with it, so that whoever started it sees it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use mesh_bus::{Bus, BusOptions, ServerRefused, TopologyError, topology};
use mesh_runtime::config::Environment;
use mesh_runtime::lifecycle::{Outcome, run_until_stopped, signals};
use mesh_runtime::telemetry::{self, TelemetryOptions};
use mesh_runtime::{Context, Restart, failpoint, planted};
use tokio::time::Instant;

use crate::cli::{Session, misconfigured};
use crate::failure::{Usage, advised};
use crate::services::{self, Configs, Edge, Service};
use crate::up::{keep_streams, lazy_sync};

/// Serve some services in this process, against MESH_NATS_URL and MESH_DATABASE_URL
///
/// Services start in any order and outlive restarts of NATS and PostgreSQL. One that ends, ends the process.
/// `mesh migrate` brings schema and streams up to date.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// Services to serve
    #[arg(required = true, value_enum)]
    services: Vec<Service>,
}

const EXAMPLES: &str = "Examples:
  MESH_NATS_URL=nats://nats:4222 MESH_NATS_MONITOR_URL=http://nats:8222 \\
    MESH_DATABASE_URL=postgres://mesh:secret@db/mesh mesh serve execution
  mesh serve registry messaging memory inference gateway
  MESH_OPS_PORT=9090 mesh serve registry      /health, /readyz and /metrics on port 9090 of every address

Exit codes: 0 stopped in order, 1 failed or a service ended, 2 wrong use of the command line.";

const STOP_DEADLINE: Duration = Duration::from_secs(30);
const DRAIN: Duration = Duration::from_secs(20);
/// How long the topology may differ, for `mesh migrate` may still be at it.
const DRIFT_PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: ServeArgs, session: &Session) -> anyhow::Result<()> {
    crate::open_files::raise();
    let signals = signals().context("cannot listen for signals")?;
    let loader = session.loader()?;
    let configs = Configs::load(&loader).map_err(misconfigured)?;
    let mut wanted = args.services;
    wanted.sort_unstable();
    wanted.dedup();
    let environment = &session.environment;
    let Some(nats_url) = environment.nats_url.clone() else {
        return Err(Usage(
            "MESH_NATS_URL is not set: mesh serve uses a nats-server that runs; mesh up starts its own".into(),
        )
        .into());
    };
    if let Some(service) = configs.lacks_database(&wanted) {
        let text = format!(
            "MESH_DATABASE_URL is not set, and {} needs a database; mesh up starts its own",
            service.name()
        );
        return Err(Usage(text).into());
    }
    let name = if let [one] = wanted.as_slice() {
        one.name()
    } else {
        "mesh"
    };
    let telemetry = start_telemetry(name, session)?;
    arm_for_tests(session)?;
    let edge = match wanted.contains(&Service::Gateway) {
        true => Some(Arc::new(Edge::bind(configs.gateway.clone()).await?)),
        false => None,
    };
    let monitor_url = environment.nats_monitor_url.clone();
    let bus = Bus::connect(BusOptions {
        url: nats_url,
        name: format!("mesh-{name}"),
        monitor_url,
        user: None,
    })
    .await?;
    let context = Context::new(name, bus, telemetry.metrics());
    serve_ops(&context, environment).await?;
    let process = Process {
        context,
        configs: Arc::new(configs),
        edge,
        failure: Arc::default(),
    };
    let shutdown = process.context.shutdown.clone();
    let body = process.serve(&wanted, environment);
    let outcome = run_until_stopped(shutdown, STOP_DEADLINE, signals, body).await;
    drop(telemetry);
    match outcome {
        Outcome::Ended(result) => result,
        Outcome::Aborted(_) => {
            anyhow::bail!("stopped before everything was drained; what was accepted is durable")
        }
    }
}

/// Health and metrics, where MESH_OPS_PORT names a port.
pub(crate) async fn serve_ops(context: &Context, environment: &Environment) -> anyhow::Result<()> {
    if let Some(port) = environment.ops_port {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let bound = mesh_runtime::ops::spawn(context, address, env!("CARGO_PKG_VERSION")).await;
        let bound = bound.with_context(|| format!("cannot listen on MESH_OPS_PORT {port}"))?;
        tracing::info!(address = %bound, "health and metrics");
    }
    Ok(())
}

/// Does nothing unless a test asks for faults.
pub(crate) fn arm_for_tests(session: &Session) -> anyhow::Result<()> {
    let environment = &session.environment;
    failpoint::arm(environment.failpoints.as_deref(), environment.failpoint_hits.as_deref())?;
    planted::plant(environment.planted_bug.as_deref())?;
    Ok(())
}

pub(crate) fn start_telemetry(name: &str, session: &Session) -> anyhow::Result<telemetry::Guard> {
    let environment = &session.environment;
    let options = TelemetryOptions {
        service_name: name.to_owned(),
        service_version: env!("CARGO_PKG_VERSION").into(),
        log_format: environment.log_format,
        log_filter: environment.log_filter.clone(),
        otlp_endpoint: environment.otlp_endpoint.clone(),
        sampling: environment.sampling,
        log_file: None,
    };
    Ok(telemetry::init(&options)?)
}

struct Process {
    context: Context,
    configs: Arc<Configs>,
    edge: Option<Arc<Edge>>,
    /// Why the process ends, if nobody told it to.
    failure: Arc<Mutex<Option<anyhow::Error>>>,
}

impl Process {
    /// The gateway does no durable work: it answers, unhealthily, from the start. The others wait for fit servers.
    async fn serve(&self, wanted: &[Service], environment: &Environment) -> anyhow::Result<()> {
        let shutdown = &self.context.shutdown;
        let (behind, edge): (Vec<_>, Vec<_>) = wanted.iter().copied().partition(|service| service.answers_on_bus());
        edge.into_iter().for_each(|service| self.start(service));
        if !behind.is_empty() {
            match shutdown
                .run_until_cancelled(wait_until_fit(&self.context.bus, environment))
                .await
            {
                Some(Ok(())) => {
                    keep_streams(&self.context, environment.nats_replicas);
                    behind.into_iter().for_each(|service| self.start(service));
                }
                Some(Err(error)) => self.fail(error),
                None => {}
            }
        }
        shutdown.cancelled().await;
        self.context.tasks.drain(DRAIN).await;
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(Ok(()), Err)
    }

    fn start(&self, service: Service) {
        let (context, configs, edge) = (self.context.clone(), Arc::clone(&self.configs), self.edge.clone());
        let process = Self {
            context: context.clone(),
            configs: Arc::clone(&configs),
            edge: edge.clone(),
            failure: Arc::clone(&self.failure),
        };
        self.context.tasks.spawn(service.name(), async move {
            tracing::info!(service = service.name(), "serving");
            let ended = services::run(service, &configs, edge.as_deref(), &context, Restart::Never).await;
            if let Err(error) = ended {
                process.fail(error.into());
            }
        });
    }

    /// The first failure is the one that is told.
    fn fail(&self, error: anyhow::Error) {
        tracing::error!(error = format!("{error:#}"), "the process ends");
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
        self.context.shutdown.cancel();
    }
}

/// Waits for a server, for ever; refuses one that may lose work at once, and one whose streams differ after a while.
async fn wait_until_fit(bus: &Bus, environment: &Environment) -> anyhow::Result<()> {
    loop {
        match bus.check_server(lazy_sync(environment)).await {
            Ok(facts) => {
                tracing::info!(version = facts.version, sync_always = ?facts.sync_always, "nats-server is fit");
                break;
            }
            Err(error @ ServerRefused::NotConnected { .. }) => {
                tracing::warn!(%error, "waiting for NATS")
            }
            Err(error) => return Err(error.into()),
        }
    }
    let topology = topology::replicated(environment.nats_replicas);
    let since = Instant::now();
    let mut told = String::new();
    loop {
        let reason = match bus.verify_topology(&topology).await {
            Ok(()) => return Ok(()),
            Err(error @ TopologyError::Drift(_)) if since.elapsed() >= DRIFT_PATIENCE => {
                return Err(advised(error, "mesh migrate brings streams and schema up to date"));
            }
            Err(error) => error.to_string(),
        };
        if reason != told {
            tracing::warn!(reason, "waiting for the streams (`mesh migrate` applies them)");
            told = reason;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
