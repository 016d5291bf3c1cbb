//! Where the mesh is that is measured, and whether what it confirms is on disk.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use mesh_bus::{Bus, BusOptions, LazySync};
use mesh_runtime::config::{Environment, process_environment};
use mesh_servers::HomeState;
use mesh_store::{Role, StoreOptions};
use serde::Serialize;
use sqlx::PgPool;

use super::ceiling::LANES;
use super::store;

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// One for each lane of the ceiling, and one to look with.
const POOL_CONNECTIONS: u32 = LANES as u32 + 1;

#[derive(Debug, Args)]
pub(super) struct PlaceArgs {
    /// NATS of the mesh [default: MESH_NATS_URL, else that of the mesh in MESH_HOME]
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    /// HTTP monitoring of NATS, to see whether it syncs [default: MESH_NATS_MONITOR_URL, else as above]
    #[arg(long, value_name = "URL")]
    monitor: Option<String>,
    /// Database of the mesh, with the user that migrated it [default: MESH_DATABASE_URL, else as above]
    #[arg(long, value_name = "URL", hide_env_values = true)]
    database: Option<String>,
}

/// The mesh that is measured.
pub(super) struct Place {
    /// Its home; scratch data of the measurement goes to the same disk.
    pub(super) home: PathBuf,
    pub(super) mesh_pid: Option<u32>,
    pub(super) bus: Bus,
    nats: String,
    database: String,
    /// Acts as the lanes do, with their settings.
    pub(super) lanes: PgPool,
    /// Acts as the user who migrated: makes and removes the scratch table, deletes the ceiling's rows.
    pub(super) owner: PgPool,
    pub(super) durability: Durability,
}

/// What makes a confirmed write survive a power cut, as the servers say it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Durability {
    pub(super) is_durable: bool,
    pub(super) fsync: String,
    /// As the lanes' connections have it.
    pub(super) synchronous_commit: String,
    pub(super) full_page_writes: String,
    /// `always`; `lazy`; `unseen` without HTTP monitoring.
    pub(super) jetstream_sync_interval: &'static str,
    pub(super) postgres: String,
    pub(super) nats_server: String,
}

impl Place {
    /// Finds and reaches the mesh.
    pub(super) async fn find(args: PlaceArgs) -> anyhow::Result<Self> {
        let environment = Environment::read(&process_environment())?;
        let home = environment.home.clone();
        let running = running(home.clone()).await?;
        let state = running.as_ref().map(|(_, state)| state);
        let nats = args
            .nats
            .or_else(|| environment.nats_url.clone())
            .or_else(|| state.map(|state| state.nats.clone()));
        let database = args
            .database
            .or_else(|| environment.database_url.as_ref().map(|url| url.expose().clone()))
            .or_else(|| state.map(|state| state.database.clone()));
        let (Some(nats), Some(database)) = (nats, database) else {
            bail!(
                "no mesh runs in {}: start one with `mesh up` (in another terminal, or with --detach), or name where it \
                 is with --nats and --database",
                home.display()
            );
        };
        let is_that_of_home = state.is_some_and(|state| state.nats == nats);
        let monitor = args
            .monitor
            .or_else(|| environment.nats_monitor_url.clone())
            .or_else(|| {
                let state = state.filter(|_| is_that_of_home)?;
                state.monitor.clone()
            });
        let mesh_pid = running.as_ref().filter(|_| is_that_of_home).map(|(pid, _)| *pid);
        Self::reach(home, mesh_pid, nats, monitor, database).await
    }

    /// The mesh of that home, which is up.
    pub(super) async fn of_home(home: PathBuf, state: HomeState) -> anyhow::Result<Self> {
        Self::reach(home, Some(state.pid), state.nats, state.monitor, state.database).await
    }

    async fn reach(
        home: PathBuf,
        mesh_pid: Option<u32>,
        nats: String,
        monitor: Option<String>,
        database: String,
    ) -> anyhow::Result<Self> {
        let bus = connect(&nats, monitor).await?;
        let pool = |role, connections_max| StoreOptions {
            url: database.clone(),
            role,
            connections_max,
        };
        let lanes = mesh_store::connect(&pool(Role::Execution, POOL_CONNECTIONS)).await?;
        let owner = store::connect_as_owner(&database)?;
        let durability = check(&bus, &lanes).await?;
        Ok(Self {
            home,
            mesh_pid,
            bus,
            nats,
            database,
            lanes,
            owner,
            durability,
        })
    }

    /// More connections for the clients: one would be their bottleneck.
    pub(super) async fn connections(&self, count: usize) -> anyhow::Result<Vec<Bus>> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(connect(&self.nats, None).await?);
        }
        Ok(connections)
    }

    /// For people; without the passwords.
    pub(super) fn describe(&self) -> String {
        format!(
            "NATS at {}, Postgres at {}",
            without_user(&self.nats),
            without_user(&self.database)
        )
    }
}

/// The mesh that runs in that home, once it has said where.
async fn running(home: PathBuf) -> anyhow::Result<Option<(u32, HomeState)>> {
    let read = tokio::task::spawn_blocking(move || {
        let Some(pid) = mesh_servers::running(&home)? else {
            return Ok(None);
        };
        Ok::<_, mesh_servers::ServersError>(HomeState::read(&home)?.map(|state| (pid, state)))
    });
    Ok(read.await??)
}

pub(super) async fn connect(url: &str, monitor_url: Option<String>) -> anyhow::Result<Bus> {
    let options = BusOptions {
        url: url.to_owned(),
        name: "mesh-bench".to_owned(),
        monitor_url,
        user: None,
    };
    let bus = Bus::connect(options).await?;
    if !bus.wait_connected(CONNECT_DEADLINE).await {
        bail!(
            "NATS at {} does not answer: is the mesh up (`mesh status`)?",
            without_user(url)
        );
    }
    Ok(bus)
}

async fn check(bus: &Bus, lanes: &PgPool) -> anyhow::Result<Durability> {
    let settings = store::durability(lanes)
        .await
        .context("the database does not answer as the lanes' role: is the mesh up and migrated (`mesh status`)?")?;
    let server = bus.check_server(LazySync::Allow).await?;
    let is_durable = settings.fsync == "on"
        && settings.full_page_writes == "on"
        && !["off", "local"].contains(&settings.synchronous_commit.as_str())
        && server.sync_always == Some(true);
    Ok(Durability {
        is_durable,
        fsync: settings.fsync,
        synchronous_commit: settings.synchronous_commit,
        full_page_writes: settings.full_page_writes,
        jetstream_sync_interval: match server.sync_always {
            Some(true) => "always",
            Some(false) => "lazy",
            None => "unseen",
        },
        postgres: settings.version,
        nats_server: server.version,
    })
}

fn without_user(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(
            without_user("postgres://mesh:s@cret@127.0.0.1:5433/mesh"),
            "postgres://127.0.0.1:5433/mesh"
        );
        assert_eq!(without_user("nats://127.0.0.1:4222"), "nats://127.0.0.1:4222");
    }
}
