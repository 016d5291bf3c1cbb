//! `mesh down`, `restart`, `reset`, `migrate`, `dashboard`: the life of the mesh in this home.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use mesh_bus::{Applied, Bus, BusOptions, topology};
use mesh_servers::{HomeLock, NatsServer, Postgres, remove_data, stop_running};
use serde_json::json;

use super::Session;
use super::session::blocking;
use crate::failure::{Usage, advised};
use crate::output::Table;
use crate::up::{lazy_sync, log_path, nats_dir, postgres_dir, start_detached};

/// Longer than `mesh up` takes to drain and stop its servers at most.
const STOP_DEADLINE: Duration = Duration::from_secs(90);

/// Stop the mesh that runs in MESH_HOME, with the servers it started
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mesh down\n  MESH_HOME=/srv/mesh mesh down\n\nNothing to stop is no failure.")]
pub(crate) struct DownArgs {}

/// Stop the mesh of MESH_HOME and start it again in the background
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mesh restart\n  mesh restart --no-demo")]
pub(crate) struct RestartArgs {
    /// Leave out the demo
    #[arg(long)]
    no_demo: bool,
}

/// Delete all data in MESH_HOME: database, streams, log
///
/// Stops the mesh first. Data on servers that MESH_NATS_URL or MESH_DATABASE_URL name stays.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mesh reset --yes && mesh up")]
pub(crate) struct ResetArgs {
    /// Delete without asking
    #[arg(short, long)]
    yes: bool,
}

/// Bring the database's schema and the streams up to date
///
/// Works on MESH_DATABASE_URL and MESH_NATS_URL, else on the mesh that runs in MESH_HOME. Repeating it changes
/// nothing. Streams are created or changed, never deleted.
#[derive(Debug, Args)]
#[command(after_help = MIGRATE_EXAMPLES)]
pub(crate) struct MigrateArgs {}

const MIGRATE_EXAMPLES: &str = "Examples:
  mesh migrate
  MESH_DATABASE_URL=postgres://mesh:secret@db/mesh MESH_NATS_URL=nats://nats:4222 \\
    MESH_NATS_MONITOR_URL=http://nats:8222 mesh migrate";

/// Open the web page of the mesh in a browser
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mesh dashboard\n  mesh dashboard --print")]
pub(crate) struct DashboardArgs {
    /// Only print the address
    #[arg(long)]
    print: bool,
}

pub(crate) async fn down(_args: DownArgs, session: &Session) -> anyhow::Result<()> {
    let stopped = stop(session).await?;
    let output = session.output;
    output.show(&json!({ "stopped": stopped }), || match stopped {
        Some(pid) => output.line(&format!("stopped (process {pid})")),
        None => output.line(&format!("no mesh runs in {}", session.home().display())),
    })
}

/// Also what a killed mesh left running.
async fn stop(session: &Session) -> anyhow::Result<Option<u32>> {
    let home = session.home().to_owned();
    blocking(move || {
        let stopped = stop_running(&home, STOP_DEADLINE)?;
        // Asking about a home must not make one.
        if home.exists()
            && let Ok(lock) = HomeLock::acquire(&home)
        {
            NatsServer::stop_leftover(&nats_dir(lock.home()))?;
            Postgres::stop_leftover(&postgres_dir(lock.home()))?;
        }
        Ok::<_, mesh_servers::ServersError>(stopped)
    })
    .await
}

pub(crate) async fn restart(args: RestartArgs, session: &Session) -> anyhow::Result<()> {
    stop(session).await?;
    start_detached(args.no_demo, session).await
}

pub(crate) async fn reset(args: ResetArgs, session: &Session) -> anyhow::Result<()> {
    let home = session.home().to_owned();
    if !args.yes {
        if !std::io::stdin().is_terminal() {
            return Err(Usage("reset deletes all data in this home: say --yes to mean it".into()).into());
        }
        let question = format!("Delete database, streams and log in {}?", home.display());
        let asked = blocking(move || inquire::Confirm::new(&question).with_default(false).prompt()).await?;
        if !asked {
            return session.output.line("nothing was deleted");
        }
    }
    stop(session).await?;
    let shown = home.display().to_string();
    blocking(move || -> anyhow::Result<()> {
        if !home.exists() {
            return Ok(());
        }
        // Nobody may start on data that is being deleted.
        let lock = HomeLock::acquire(&home)?;
        for folder in [nats_dir(lock.home()), postgres_dir(lock.home())] {
            remove_data(&folder)?;
        }
        for file in [log_path(lock.home()), log_path(lock.home()).with_extension("log.1")] {
            if file.exists() {
                std::fs::remove_file(&file).with_context(|| format!("cannot delete {}", file.display()))?;
            }
        }
        Ok(())
    })
    .await?;
    session.output.show(&json!({ "reset": shown }), || {
        session.output.line(&format!("all data in {shown} is deleted"))
    })
}

pub(crate) async fn migrate(_args: MigrateArgs, session: &Session) -> anyhow::Result<()> {
    let environment = &session.environment;
    let state = session.running()?.and_then(|running| running.state);
    let database = environment.database_url.as_ref().map(|url| url.expose().clone());
    let database = database.or_else(|| state.as_ref().map(|state| state.database.clone()));
    let nats = match &environment.nats_url {
        Some(url) => Some((url.clone(), environment.nats_monitor_url.clone())),
        None => state.map(|state| (state.nats, state.monitor)),
    };
    let (Some(database), Some((url, monitor_url))) = (database, nats) else {
        let text = "there is nothing to migrate: set MESH_DATABASE_URL and MESH_NATS_URL, or start a mesh with mesh up";
        return Err(Usage(text.into()).into());
    };
    let report = mesh_store::migrate(&database).await?;
    let bus = Bus::connect(BusOptions {
        url,
        name: "mesh-migrate".into(),
        monitor_url,
        user: None,
    })
    .await?;
    bus.check_server(lazy_sync(environment)).await?;
    let applied = bus
        .apply_topology(&topology::replicated(environment.nats_replicas))
        .await?;
    let change = |applied: &Applied| match applied {
        Applied::Created(what) => Some(format!("{what}: created")),
        Applied::Updated(what, fields) => Some(format!("{what}: changed {}", fields.join(", "))),
        Applied::Unchanged(_) => None,
    };
    let streams: Vec<_> = applied.iter().filter_map(change).collect();
    let value = json!({ "schema": report.version, "migrations": report.applied, "streams": streams });
    let output = session.output;
    output.show(&value, || {
        let mut table = Table::new(output, &["WHAT", "CHANGED"]);
        let list = |items: &[String]| {
            if items.is_empty() {
                "nothing".to_owned()
            } else {
                items.join("; ")
            }
        };
        table.row([format!("schema, now at {}", report.version), list(&report.applied)]);
        table.row([format!("streams ({})", applied.len()), list(&streams)]);
        table.print()
    })
}

pub(crate) async fn dashboard(args: DashboardArgs, session: &Session) -> anyhow::Result<()> {
    let client = session.client()?;
    let url = client.base().to_owned();
    session.output.line(&url)?;
    if args.print {
        return Ok(());
    }
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let target = url.clone();
    let opened = blocking(move || {
        let mut command = Command::new(opener);
        command
            .arg(&target)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok::<_, Infallible>(command.status().is_ok_and(|status| status.success()))
    })
    .await?;
    if opened {
        return Ok(());
    }
    Err(advised(
        anyhow::anyhow!("no browser could be opened"),
        format!("open {url} yourself"),
    ))
}
