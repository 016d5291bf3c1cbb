//! A nats-server, a Postgres and one `mesh serve heartbeat` of the measurement's own, in a folder for temporary files.
//! They go with this value, and soon after this process if that is killed.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mesh_api::heartbeat::ObservedAll;
use mesh_api::{Caller, PageQuery};
use mesh_bus::{Bus, topology};
use mesh_servers::{NatsOptions, NatsServer, Postgres, PostgresOptions, Quiet, ScratchDir, Tools};
use mesh_types::Tenant;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::place;
use crate::bench::processes::Processes;
use crate::bench::progress::Progress;

const READY_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Stops the process once our end of its standard input is gone.
const REAPER: &str = r#"cat >/dev/null; kill -TERM "$1""#;

pub(super) struct Ground {
    pub(super) bus: Bus,
    pub(super) processes: Processes,
    pub(super) url: String,
    metrics: String,
    // In this order: stopped, then removed.
    heartbeat: Heartbeat,
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
        let heartbeat = Heartbeat::start(folder.path(), &environment)?;
        let processes = Processes::of(vec![
            ("heartbeat", heartbeat.child.id()),
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
            if let Some(status) = self.heartbeat.child.try_wait()? {
                let log = std::fs::read_to_string(&self.heartbeat.log).unwrap_or_default();
                bail!(
                    "the heartbeat service ended while it started ({status}):\n{}",
                    tail(&log)
                );
            }
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

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

/// The process that is measured.
struct Heartbeat {
    child: Child,
    reaper: Child,
    log: PathBuf,
}

impl Heartbeat {
    fn start(home: &Path, environment: &[(&str, String)]) -> anyhow::Result<Self> {
        let log = home.join("heartbeat.log");
        let file = File::create(&log)?;
        let mut command = Command::new(std::env::current_exe().context("cannot find this program's file")?);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("MESH_") || ["NATS_URL", "DATABASE_URL"].contains(&&*name) {
                command.env_remove(&*name);
            }
        }
        let child = command
            .args(["serve", "heartbeat"])
            .env("MESH_HOME", home)
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("cannot start `mesh serve heartbeat`")?;
        let reaper = Command::new("sh")
            .args(["-c", REAPER, "bench-reaper", &child.id().to_string()])
            // A Ctrl-C for us is none for it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start `sh`")?;
        Ok(Self { child, reaper, log })
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        // First: afterwards the number of our child may be another's.
        let _ = self.reaper.kill();
        let _ = self.reaper.wait();
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX));
        let deadline = Instant::now() + STOP_DEADLINE;
        let _ = kill(pid, Signal::SIGTERM);
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(LOOK_EVERY),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
