//! One service as a process of its own, for a measurement.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const STOP_DEADLINE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Of its log, when it ended.
const LOG_LINES: usize = 10;
/// Stops the process once our end of its standard input is gone.
const REAPER: &str = r#"cat >/dev/null; kill -TERM "$1""#;

/// One service of the mesh. Ends with this value, and soon after this process if that is killed.
pub(super) struct Service {
    name: &'static str,
    child: Child,
    reaper: Child,
    log: PathBuf,
}

impl Service {
    /// `mesh serve <name>` with its home in that folder, and nothing of this process's own configuration.
    pub(super) fn start(name: &'static str, home: &Path, environment: &[(&str, String)]) -> anyhow::Result<Self> {
        Self::start_as(name, &["serve", name], home, environment)
    }

    /// As [`Self::start`] with another command of this program.
    pub(super) fn start_as(
        name: &'static str,
        arguments: &[&str],
        home: &Path,
        environment: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let log = home.join(format!("{name}.log"));
        let file = File::create(&log)?;
        let mut command = Command::new(std::env::current_exe().context("cannot find this program's file")?);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("MESH_") || ["NATS_URL", "DATABASE_URL"].contains(&&*name) {
                command.env_remove(&*name);
            }
        }
        let child = command
            .args(arguments)
            .env("MESH_HOME", home)
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start `mesh {}`", arguments.join(" ")))?;
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
            name,
            child,
            reaper,
            log,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails with the end of its log when it has ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        bail!("the service `{}` ended while it started ({status}):\n{end}", self.name);
    }
}

impl Drop for Service {
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
