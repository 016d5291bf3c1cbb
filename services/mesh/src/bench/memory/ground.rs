//! A nats-server, a Postgres and one `mesh serve memory` of the measurement's own, in a folder for temporary files.

use std::str::FromStr as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mesh_api::Caller;
use mesh_api::memory::{ListMemories, MemoryList};
use mesh_bus::{Bus, topology};
use mesh_servers::{NatsOptions, NatsServer, Postgres, PostgresOptions, Quiet, ScratchDir, Tools};
use mesh_types::Tenant;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};

use crate::bench::place;
use crate::bench::progress::Progress;
use crate::bench::service::Service;

const READY_DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(super) struct Ground {
    pub(super) bus: Bus,
    url: String,
    database: String,
    // In this order: stopped, then removed.
    memory: Service,
    servers: (NatsServer, Postgres),
    folder: ScratchDir,
}

impl Ground {
    pub(super) async fn start(progress: &Progress) -> anyhow::Result<Self> {
        progress.phase("starting nats-server, Postgres and the memory service");
        let (folder, servers) = tokio::task::spawn_blocking(start_servers).await??;
        let (url, database) = (servers.0.url(), servers.1.url());
        mesh_store::migrate(&database).await?;
        let bus = place::connect(&url, None).await?;
        bus.apply_topology(&topology::standard()).await?;
        let ops_port = mesh_servers::free_port().context("no port is free")?;
        let environment = [
            ("MESH_NATS_URL", url.clone()),
            ("MESH_NATS_MONITOR_URL", servers.0.monitor_url()),
            ("MESH_DATABASE_URL", database.clone()),
            ("MESH_OPS_PORT", ops_port.to_string()),
            // Searches come with their vectors.
            ("MESH_MEMORY__EMBEDDER", "hash".to_owned()),
        ];
        let memory = Service::start("memory", folder.path(), &environment)?;
        let mut ground = Self {
            bus,
            url,
            database,
            memory,
            servers,
            folder,
        };
        ground.wait_ready().await?;
        Ok(ground)
    }

    async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            self.memory.check()?;
            match self.bus.call::<MemoryList>(&caller(), &ListMemories::default()).await {
                Ok(_) => return Ok(()),
                Err(problem) if Instant::now() >= deadline => {
                    return Err(problem).context("the memory service is not ready after 60 s");
                }
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// One more connection to NATS.
    pub(super) async fn client(&self) -> anyhow::Result<Bus> {
        place::connect(&self.url, None).await
    }

    /// One more connection to the database, as its superuser: no policy slows it.
    pub(super) async fn database(&self) -> anyhow::Result<PgConnection> {
        let options = PgConnectOptions::from_str(&self.database)?.application_name("mesh-bench");
        Ok(options.connect().await?)
    }

    pub(super) async fn stop(self, progress: &Progress) -> anyhow::Result<()> {
        progress.phase("stopping the servers of the measurement");
        let parts = (self.memory, self.servers, self.folder);
        // Stopping waits for them.
        Ok(tokio::task::spawn_blocking(move || {
            let (memory, servers, folder) = parts;
            drop(memory);
            drop(servers);
            drop(folder);
        })
        .await?)
    }
}

pub(super) fn caller() -> Caller {
    Caller::service("bench", Tenant::default())
}

fn start_servers() -> anyhow::Result<(ScratchDir, (NatsServer, Postgres))> {
    let tools = Tools::resolve(&mut Quiet)?;
    let folder = ScratchDir::new()?;
    let nats = NatsServer::start(&tools.nats, NatsOptions::new(folder.path().join("nats")))?;
    let postgres = Postgres::start(&tools.postgres, PostgresOptions::new(folder.path().join("postgres")))?;
    Ok((folder, (nats, postgres)))
}
