//! `mesh up --detach`: starts `mesh up` in a session of its own, and returns when it is up or has failed.

use std::convert::Infallible;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mesh_runtime::ops::ReadyBody;
use mesh_servers::{HomeLock, HomeState, NatsTool, PostgresTool, ServersError};

use crate::cli::Session;
use crate::client::Client;
use crate::failure::advised;
use crate::services::Configs;

use super::progress::Report;
use super::{log, table, weights};

/// A first start initialises a database; fetching was done before.
const UP_DEADLINE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// Lines of the log that a failed start shows.
const TAIL_LINES: usize = 20;

pub(crate) async fn start(no_demo: bool, session: &Session) -> anyhow::Result<()> {
    let began = Instant::now();
    let home = session.home().to_owned();
    let report = Report::new();
    // Who holds the home is told here, and the folder is there for the log.
    let home = crate::cli::blocking(move || HomeLock::acquire(&home).map(|lock| lock.home().to_owned())).await?;
    let memory = Configs::load(&session.loader()?)
        .map_err(crate::cli::misconfigured)?
        .memory;
    fetch(session, memory, report.clone()).await?;
    report.say("starting");
    let file = log::open(&home)?;
    let log_from = file.metadata()?.len();
    let mut command = Command::new(std::env::current_exe().context("cannot find this program's file")?);
    command.args(["up", "--background"]);
    if no_demo {
        command.arg("--no-demo");
    }
    if let Some(config) = session.config_file() {
        command.arg("--config").arg(config);
    }
    command
        .env("MESH_HOME", &home)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    let mut child = command.spawn().context("cannot start `mesh up`")?;
    let started = wait_until_up(&mut child, &home).await;
    report.end();
    match started {
        Ok(state) => table::print(&state, &home, began.elapsed(), table::Stop::Down, session.output),
        Err(error) => {
            let tail = log::tail(&home, log_from, TAIL_LINES);
            session.output.note(&tail);
            Err(advised(
                error,
                format!("the whole log is in {}", log::path(&home).display()),
            ))
        }
    }
}

/// Before it goes to the background: a download shows how far it is.
async fn fetch(session: &Session, memory: memory::Config, mut report: Report) -> anyhow::Result<()> {
    let (needs_nats, needs_postgres) = (
        session.environment.nats_url.is_none(),
        session.environment.database_url.is_none(),
    );
    crate::cli::blocking(move || -> Result<(), ServersError> {
        if needs_nats {
            NatsTool::resolve(&mut report)?;
        }
        if needs_postgres {
            PostgresTool::resolve(&mut report)?;
        }
        weights::fetch(&memory, &mut report);
        Ok(())
    })
    .await
}

async fn wait_until_up(child: &mut Child, home: &std::path::Path) -> anyhow::Result<HomeState> {
    let deadline = Instant::now() + UP_DEADLINE;
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("the mesh ended while it started ({status})");
        }
        let folder = home.to_owned();
        let state = crate::cli::blocking(move || Ok::<_, Infallible>(HomeState::read(&folder))).await?;
        if let Some(state) = state?.filter(|state| state.pid == child.id()) {
            let client = Client::new(&state.http, None)?;
            let ready = client.probe::<ReadyBody>("/readyz", PROBE_TIMEOUT).await;
            if ready.is_ok_and(|(status, _)| status == 200) {
                return Ok(state);
            }
        }
        if Instant::now() >= deadline {
            bail!(
                "the mesh is not ready after {} s; it goes on starting",
                UP_DEADLINE.as_secs()
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
