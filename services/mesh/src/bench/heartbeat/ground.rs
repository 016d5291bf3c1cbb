//! A nats-server, a Postgres and one `mesh serve heartbeat` of the measurement's own, in a folder for temporary files.
//! They go with this value, and soon after this process if that is killed.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use mesh_api::heartbeat::ObservedAll;
use mesh_api::{Caller, PageQuery};
use mesh_bus::{Bus, topology};
use mesh_servers::{NatsOptions, NatsServer, Postgres, PostgresOptions, Quiet, ScratchDir, Tools};
use mesh_types::Tenant;

use crate::bench::place;
use crate::bench::processes::Processes;
use crate::bench::progress::Progress;
use crate::bench::service::Service;

const READY_DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(super) struct Ground {
    pub(super) bus: Bus,
    pub(super) processes: Processes,
    pub(super) url: String,
    metrics: String,
    // In this order: stopped, then removed.
    heartbeat: Service,
    servers: Servers,
    folder: ScratchDir,
}

struct Servers {
    nats: NatsServer,
    postgres: Postgres,
}

impl Ground {
    pub(super) async fn start(progress: &Progress) -> anyhow::Result<Self> {
        progress.phase("starting nats-server, Postgres and the heartbeat service");
        let (folder, servers) = tokio::task::spawn_blocking(start_servers).await??;
        let (url, database) = (servers.nats.url(), servers.postgres.url());
        mesh_store::migrate(&database).await?;
        let bus = place::connect(&url, None).await?;
        bus.apply_topology(&topology::standard()).await?;
        let ops_port = mesh_servers::free_port().context("no port is free")?;
        let environment = [
            ("MESH_NATS_URL", url.clone()),
            ("MESH_NATS_MONITOR_URL", servers.nats.monitor_url()),
            ("MESH_DATABASE_URL", database),
            ("MESH_OPS_PORT", ops_port.to_string()),
        ];
        let heartbeat = Service::start("heartbeat", folder.path(), &environment)?;
        let processes = Processes::of(vec![
            ("heartbeat", heartbeat.pid()),
            ("nats", servers.nats.pid()),
            ("postgres", servers.postgres.pid()),
            ("bench", std::process::id()),
        ]);
        let mut ground = Self {
            bus,
            processes,
            url,
            metrics: format!("http://127.0.0.1:{ops_port}/metrics"),
            heartbeat,
            servers,
            folder,
        };
        ground.wait_ready().await?;
        Ok(ground)
    }

    async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            self.heartbeat.check()?;
            let asked = self.bus.call::<ObservedAll>(&caller(), &PageQuery::default()).await;
            match asked {
                Ok(_) => return Ok(()),
                Err(problem) if Instant::now() >= deadline => {
                    return Err(problem).context("the heartbeat service is not ready after 60 s");
                }
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// One more nats-server.
    pub(super) async fn alone(&self) -> anyhow::Result<Alone> {
        let dir = self.folder.path().join("alone");
        let start = tokio::task::spawn_blocking(move || {
            let tools = Tools::resolve(&mut Quiet)?;
            NatsServer::start(&tools.nats, NatsOptions::new(dir))
        });
        let server = start.await??;
        Ok(Alone {
            url: server.url(),
            server,
        })
    }

    /// The service's metrics as Prometheus reads them.
    pub(super) async fn metrics(&self) -> anyhow::Result<String> {
        let answer = reqwest::get(&self.metrics).await.context("the metrics of heartbeat")?;
        Ok(answer.error_for_status()?.text().await?)
    }

    pub(super) async fn stop(self, progress: &Progress) -> anyhow::Result<()> {
        progress.phase("stopping the servers of the measurement");
        let parts = (self.heartbeat, self.servers, self.folder);
        // Stopping waits for them.
        Ok(tokio::task::spawn_blocking(move || {
            let (heartbeat, servers, folder) = parts;
            drop(heartbeat);
            drop((servers.nats, servers.postgres));
            drop(folder);
        })
        .await?)
    }
}

/// A nats-server that nobody else uses.
pub(super) struct Alone {
    pub(super) url: String,
    server: NatsServer,
}

impl Alone {
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        Ok(tokio::task::spawn_blocking(move || drop(self.server)).await?)
    }
}

pub(super) fn caller() -> Caller {
    Caller::service("bench", Tenant::default())
}

fn start_servers() -> anyhow::Result<(ScratchDir, Servers)> {
    let tools = Tools::resolve(&mut Quiet)?;
    let folder = ScratchDir::new()?;
    let nats = NatsServer::start(&tools.nats, NatsOptions::new(folder.path().join("nats")))?;
    let postgres = Postgres::start(&tools.postgres, PostgresOptions::new(folder.path().join("postgres")))?;
    Ok((folder, Servers { nats, postgres }))
}
