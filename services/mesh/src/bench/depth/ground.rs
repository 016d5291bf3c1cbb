//! A mesh of the measurement's own: `mesh up` as a child in a folder for temporary files, on free ports. It goes with
//! this value, and soon after this process if that is killed.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mesh_runtime::ops::ReadyBody;
use mesh_servers::{HomeState, ScratchDir};
use serde_json::Value;

use crate::bench::place::Place;
use crate::bench::progress::Progress;
use crate::client::Client;

/// A first start initialises a database, and may fetch the servers.
const UP_DEADLINE: Duration = Duration::from_secs(300);
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// As long as `mesh up` gives itself, and a little.
const STOP_DEADLINE: Duration = Duration::from_secs(45);
const TAIL_LINES: usize = 10;
/// Stops the mesh once our end of its standard input is gone.
const REAPER: &str = r#"cat >/dev/null; kill -TERM "$1""#;
/// Names without `MESH_` that would lead the mesh to the servers and models of others.
const FOREIGN: [&str; 7] = [
    "NATS_URL",
    "DATABASE_URL",
    "DATALAYER_RUNTIMES_URL",
    "DATALAYER_API_KEY",
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "OLLAMA_URL",
];

pub(super) struct Ground {
    pub(super) place: Place,
    // In this order: stopped, then removed.
    mesh: Mesh,
    _folder: ScratchDir,
}

impl Ground {
    /// `config` is the mesh's configuration file.
    pub(super) async fn start(config: &Value, progress: &Progress) -> anyhow::Result<Self> {
        progress.phase("starting a mesh for the measurement");
        let folder = tokio::task::spawn_blocking(ScratchDir::new).await??;
        let home = folder.path().to_owned();
        let config_file = home.join("config.json");
        std::fs::write(&config_file, serde_json::to_vec(config)?)?;
        let mut mesh = Mesh::start(&home, &config_file)?;
        let state = match mesh.wait_until_up().await {
            Ok(state) => state,
            Err(error) => {
                let log = std::fs::read_to_string(mesh.log()).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                progress.say(&lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"));
                return Err(error);
            }
        };
        let place = Place::of_home(home, state).await?;
        Ok(Self {
            place,
            mesh,
            _folder: folder,
        })
    }

    pub(super) async fn stop(self, progress: &Progress) -> anyhow::Result<()> {
        progress.phase("stopping the mesh of the measurement");
        self.place.lanes.close().await;
        self.place.owner.close().await;
        // Stopping waits for the servers.
        Ok(tokio::task::spawn_blocking(move || drop((self.mesh, self._folder))).await?)
    }
}

struct Mesh {
    home: PathBuf,
    child: Child,
    reaper: Child,
}

impl Mesh {
    fn start(home: &Path, config_file: &Path) -> anyhow::Result<Self> {
        let log = File::create(home.join("bench.log"))?;
        let mut command = Command::new(std::env::current_exe().context("cannot find this program's file")?);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("MESH_") && name != "MESH_CACHE" || FOREIGN.contains(&&*name) {
                command.env_remove(&*name);
            }
        }
        for port in ["MESH_HTTP_PORT", "MESH_NATS_PORT", "MESH_POSTGRES_PORT"] {
            command.env(port, "0");
        }
        let child = command
            .args(["up", "--no-demo", "--config"])
            .arg(config_file)
            .env("MESH_HOME", home)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start `mesh up`")?;
        let reaper = Command::new("sh")
            .args(["-c", REAPER, "bench-reaper", &child.id().to_string()])
            // A Ctrl-C for us is none for it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start `sh`")?;
        Ok(Self {
            home: home.to_owned(),
            child,
            reaper,
        })
    }

    fn log(&self) -> PathBuf {
        self.home.join("bench.log")
    }

    async fn wait_until_up(&mut self) -> anyhow::Result<HomeState> {
        let deadline = Instant::now() + UP_DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the mesh of the measurement ended while it started ({status})");
            }
            if let Some(state) = HomeState::read(&self.home)? {
                let client = Client::new(&state.http, None)?;
                let ready = client.probe::<ReadyBody>("/readyz", PROBE_TIMEOUT).await;
                if ready.is_ok_and(|(status, _)| status == 200) {
                    return Ok(state);
                }
            }
            if Instant::now() >= deadline {
                bail!(
                    "the mesh of the measurement is not ready after {} s",
                    UP_DEADLINE.as_secs()
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        // First: afterwards the number of our child may be another's.
        let _ = self.reaper.kill();
        let _ = self.reaper.wait();
        if mesh_servers::stop_running(&self.home, STOP_DEADLINE).is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
