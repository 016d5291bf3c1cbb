//! The servers that a backup is taken of or a restore goes to: those that are named, those of the mesh that runs in this
//! home, or the home's own, started for as long as this takes.

use std::time::Duration;

use mesh_bus::{Bus, BusOptions};
use mesh_runtime::Secret;

use crate::cli::Session;
use crate::failure::advised;
use crate::services::Service;
use crate::up::{Borrowed, Report, nats_dir, postgres_dir};

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long services may take to say that they are there.
const LISTEN: Duration = Duration::from_millis(700);

pub(super) struct Target {
    pub(super) database_url: Secret<String>,
    pub(super) bus: Bus,
    /// Last: whoever uses them goes first.
    _borrowed: Option<Borrowed>,
}

/// What is to be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Backup,
    Restore,
}

impl Target {
    pub(super) async fn reach(session: &Session, purpose: Purpose) -> anyhow::Result<Self> {
        let environment = &session.environment;
        let running = session.running()?;
        if let (Some(nats_url), Some(database_url)) = (&environment.nats_url, &environment.database_url) {
            let monitor_url = environment.nats_monitor_url.clone();
            return Self::connected(nats_url.clone(), monitor_url, database_url.clone(), None).await;
        }
        if let Some(running) = running {
            if purpose == Purpose::Restore {
                let error = anyhow::anyhow!("a mesh runs in {} (process {})", session.home().display(), running.pid);
                return Err(advised(error, "mesh down stops it; then restore"));
            }
            let Some(state) = running.state else {
                return Err(advised(
                    anyhow::anyhow!("the mesh is starting"),
                    "try again in a moment",
                ));
            };
            return Self::connected(state.nats, state.monitor, state.database.into(), None).await;
        }
        let home = session.home();
        let is_new = !nats_dir(home).exists() && !postgres_dir(home).exists();
        if purpose == Purpose::Backup && is_new {
            let error = anyhow::anyhow!("no mesh has run in {}", home.display());
            let next = "MESH_HOME names another home; or name servers in MESH_NATS_URL and MESH_DATABASE_URL";
            return Err(advised(error, next));
        }
        let report = Report::new();
        let borrowed = Borrowed::start(session, &report).await;
        report.end();
        let borrowed = borrowed?;
        let (nats, monitor) = (
            borrowed.nats_url().to_owned(),
            borrowed.monitor_url().map(str::to_owned),
        );
        let database = borrowed.database_url().clone();
        Self::connected(nats, monitor, database, Some(borrowed)).await
    }

    async fn connected(
        url: String,
        monitor_url: Option<String>,
        database_url: Secret<String>,
        borrowed: Option<Borrowed>,
    ) -> anyhow::Result<Self> {
        let shown = crate::up::without_password(&url);
        let bus = Bus::connect(BusOptions {
            url,
            name: "mesh-backup".into(),
            monitor_url,
            user: None,
        })
        .await?;
        if !bus.wait_connected(CONNECT_DEADLINE).await {
            let error = anyhow::anyhow!("no nats-server answers at {shown}");
            return Err(advised(error, "start it, or correct MESH_NATS_URL"));
        }
        Ok(Self {
            database_url,
            bus,
            _borrowed: borrowed,
        })
    }

    /// Services of a mesh that answer on this NATS.
    pub(super) async fn services(&self) -> anyhow::Result<Vec<String>> {
        let heard = self.bus.discover(LISTEN).await?;
        let ours = |name: &String| Service::ALL.iter().any(|service| service.name() == name);
        let mut names: Vec<_> = heard.into_iter().map(|service| service.name).filter(ours).collect();
        names.dedup();
        Ok(names)
    }
}
