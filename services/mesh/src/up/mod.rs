//! `mesh up`: everything on this machine in one process. Servers first, then the services, then the demo; a table of
//! addresses when all of it answers. What it started it stops.

mod borrowed;
mod credentials;
mod detach;
mod disk;
mod keeper;
mod log;
mod progress;
mod seed;
mod servers;
mod stack;
mod table;
mod weights;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use futures::{Stream, StreamExt};
use mesh_runtime::lifecycle::{Outcome, Signal, run_until_stopped, signals};
use mesh_runtime::telemetry::{self, TelemetryOptions};
use mesh_servers::{HTTP_PORT_VARIABLE, HomeLock, HomeState, check_free};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::Session;
use crate::output::took;
use crate::services::{Configs, Edge};

use credentials::Credentials;
use servers::Servers;
use stack::Stack;

pub(crate) use borrowed::Borrowed;
pub(crate) use credentials::{api_key, ensure_api_key, nats_user};
pub(crate) use detach::start as start_detached;
pub(crate) use log::path as log_path;
pub(crate) use progress::Report;
pub(crate) use seed::demo as seed_demo;
pub(crate) use servers::{nats_dir, postgres_dir};
pub(crate) use stack::{keep_streams, lazy_sync};
pub(crate) use table::{without_password, without_user};

/// Start everything on this machine and serve until Ctrl-C
///
/// Finds or fetches nats-server and PostgreSQL, keeps their data in MESH_HOME, brings the database's schema and the
/// streams up to date, and serves every service in one process. Uses the servers that MESH_NATS_URL and
/// MESH_DATABASE_URL name instead of starting its own.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpArgs {
    /// Return once it is up; `mesh down` stops it
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Leave out the demo: tenants `default` and `daarion` with the agent `sofia`
    #[arg(long)]
    pub(crate) no_demo: bool,
    /// What `--detach` starts
    #[arg(long, hide = true, conflicts_with = "detach")]
    background: bool,
}

const EXAMPLES: &str = "Examples:
  mesh up
  mesh up --detach && mesh invoke sofia hello
  MESH_HTTP_PORT=8001 MESH_HOME=/srv/mesh mesh up
  MESH_HTTP_PORT=0 MESH_NATS_PORT=0 MESH_POSTGRES_PORT=0 mesh up --no-demo    free ports
  MESH_DATABASE_URL=postgres://mesh:secret@db/mesh mesh up

`mesh logs` shows the log. Exit codes: 0 stopped in order, 1 failed, 2 wrong use of the command line.";

/// From the first signal to the end: the gateway's drain, the services', the servers' stop.
const STOP_DEADLINE: Duration = Duration::from_secs(40);

pub(crate) async fn run(args: UpArgs, session: &Session) -> anyhow::Result<()> {
    let loader = session.loader()?;
    let mut configs = Configs::load(&loader).map_err(crate::cli::misconfigured)?;
    configs.use_demo_defaults(&loader);
    if args.detach {
        return detach::start(args.no_demo, session).await;
    }
    if args.background {
        // Its own session: the terminal's end is not its end.
        nix::unistd::setsid().ok();
    }
    crate::open_files::raise();
    let began = Instant::now();
    let signals = stop_signals().context("cannot listen for signals")?;
    let shutdown = CancellationToken::new();
    let home = session.home().to_owned();
    let lock = crate::cli::blocking(move || HomeLock::acquire(&home)).await?;
    let telemetry = start_telemetry(&args, session, lock.home())?;
    let up = Up {
        args,
        session,
        began,
        lock,
        shutdown: shutdown.clone(),
    };
    let report = up.report();
    let body = async {
        let ended = up.serve(configs, telemetry.metrics(), &report).await;
        report.end();
        ended
    };
    let outcome = run_until_stopped(shutdown, STOP_DEADLINE, signals, body).await;
    drop(telemetry);
    match outcome {
        Outcome::Ended(result) => result,
        Outcome::Aborted(_) => {
            anyhow::bail!("stopped before everything was drained; what was accepted is durable")
        }
    }
}

/// A terminal that is closed stops the mesh in order, too: its servers would stay otherwise.
fn stop_signals() -> std::io::Result<impl Stream<Item = Signal> + Unpin> {
    let hangup = signal(SignalKind::hangup())?;
    let hangups = futures::stream::unfold(hangup, |mut hangup| async move {
        hangup.recv().await.map(|()| (Signal::Terminate, hangup))
    });
    Ok(futures::stream::select(signals()?, hangups.boxed()))
}

/// In the background stdout is the log already.
fn start_telemetry(args: &UpArgs, session: &Session, home: &Path) -> anyhow::Result<telemetry::Guard> {
    let environment = &session.environment;
    let log_file = if args.background {
        None
    } else {
        Some(Arc::new(log::open(home)?))
    };
    let options = TelemetryOptions {
        service_name: "mesh".into(),
        service_version: env!("CARGO_PKG_VERSION").into(),
        log_format: environment.log_format,
        log_filter: environment.log_filter.clone(),
        otlp_endpoint: environment.otlp_endpoint.clone(),
        sampling: environment.sampling,
        log_file,
    };
    Ok(telemetry::init(&options)?)
}

struct Up<'a> {
    args: UpArgs,
    session: &'a Session,
    began: Instant,
    lock: HomeLock,
    shutdown: CancellationToken,
}

impl Up<'_> {
    /// From nothing to serving, and back to nothing at the shutdown.
    async fn serve(&self, mut configs: Configs, metrics: mesh_runtime::Metrics, report: &Report) -> anyhow::Result<()> {
        // Before the slow part: a taken port is told at once, and bound only when it can be served.
        match configs.gateway.port {
            0 => {}
            port => check_free(port, HTTP_PORT_VARIABLE)?,
        }
        let credentials = self.credentials(&mut configs)?;
        let environment = &self.session.environment;
        let starting = Servers::start(self.home(), environment, credentials.as_ref(), report);
        let weights = weights::provide(&configs.memory, report.clone());
        let both = async { tokio::join!(starting, weights) };
        let Some((started, weights)) = self.until_shutdown(both).await else {
            return Ok(());
        };
        let servers = started?;
        configs.memory.embedding_weights = configs.memory.embedding_weights.or(weights);
        let edge = Edge::bind(configs.gateway.clone()).await?;
        let http = format!("http://{}", edge.address());
        let state = HomeState {
            pid: std::process::id(),
            http,
            nats: servers.nats_url.clone(),
            database: servers.database_url.expose().clone(),
            monitor: servers.monitor_url.clone(),
        };
        self.lock.write_state(&state)?;
        disk::watch(&metrics, self.home());
        let stack = Stack::new(configs, edge, &servers, metrics, self.shutdown.clone()).await?;
        let ended = match self.until_shutdown(self.bring_up(&stack, report)).await {
            None => Ok(()),
            Some(Err(error)) => Err(error),
            Some(Ok(())) => {
                report.end();
                // Nobody may be reading; that is no reason not to serve.
                if let Err(error) = self.tell(&state) {
                    tracing::warn!(%error, "the addresses could not be shown");
                }
                self.shutdown.cancelled().await;
                Ok(())
            }
        };
        let report = self.report();
        report.say("stopping: open work is finished or handed back");
        stack.stop().await;
        // With its connections, which would see their servers go.
        drop(stack);
        crate::cli::blocking(move || {
            drop(servers);
            Ok::<_, Infallible>(())
        })
        .await?;
        report.end();
        ended
    }

    async fn bring_up(&self, stack: &Stack, report: &Report) -> anyhow::Result<()> {
        report.say("bringing the database's schema and the streams up to date");
        stack.prepare(&self.session.environment).await?;
        report.say("starting the services");
        stack.start_services(&self.session.environment);
        stack.wait_until_answering().await?;
        if !self.args.no_demo {
            report.say("seeding the demo");
            seed::demo(&stack.context).await;
        }
        if stack.requires_credentials() {
            credentials::ensure_api_key(&stack.context, self.lock.home())
                .await
                .context("the API key of this command line could not be made")?;
        }
        stack.wait_until_healthy().await?;
        stack.start_gateway();
        Ok(())
    }

    /// What our nats-server and the services know of each other where credentials are demanded.
    fn credentials(&self, configs: &mut Configs) -> anyhow::Result<Option<Credentials>> {
        if !configs.gateway.require_credentials || self.session.environment.nats_url.is_some() {
            return Ok(None);
        }
        let credentials = Credentials::of_home(self.lock.home())?;
        credentials.configure(configs);
        Ok(Some(credentials))
    }

    async fn until_shutdown<F: Future>(&self, work: F) -> Option<F::Output> {
        self.shutdown.run_until_cancelled(work).await
    }

    fn report(&self) -> Report {
        if self.args.background {
            Report::to_log()
        } else {
            Report::new()
        }
    }

    /// Who waits for a mesh in the background shows the table there.
    fn tell(&self, state: &HomeState) -> anyhow::Result<()> {
        let since = self.began.elapsed();
        if self.args.background {
            tracing::info!(
                http = state.http,
                nats = without_password(&state.nats),
                took = took(since),
                "the mesh is up"
            );
            return Ok(());
        }
        let stop = table::Stop::CtrlC;
        table::print(state, &self.home(), since, stop, self.session.output)
    }

    fn home(&self) -> PathBuf {
        self.lock.home().to_owned()
    }
}
