//! Starting the built `mesh` program: where it is, what it inherits, and how everything it started is found again.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mesh_servers::{Found, processes_with_environment};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::unique;

/// Everything a test starts carries this name with a value of its own in its environment.
pub(super) const MARK: &str = "AGENT_MESH_E2E";
/// Another `mesh` to test, such as a released one.
const PROGRAM: &str = "AGENT_MESH_PROGRAM";
/// Configuration of the person who runs the tests, which must not reach them. `MESH_CACHE` may.
const PERSONAL: [&str; 9] = [
    "NATS_URL",
    "DATABASE_URL",
    "OPENAI_",
    "ANTHROPIC_",
    "OLLAMA_",
    "EMBEDDING_",
    "CORS_",
    "OTEL_",
    "RUST_LOG",
];
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// An environment of the `mesh` program, and the mark of all that is started with it.
#[derive(Debug)]
pub(crate) struct Launch {
    environment: BTreeMap<String, String>,
    mark: String,
}

/// What a command of the program said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Its output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Launch {
    pub(crate) fn new(environment: &[(&str, String)]) -> Self {
        let mark = unique("mesh");
        let mut environment: BTreeMap<_, _> = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        environment.insert(MARK.to_owned(), mark.clone());
        Self { environment, mark }
    }

    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let is_ours = text.starts_with("MESH_") && text != "MESH_CACHE";
            if is_ours || PERSONAL.iter().any(|personal| text.starts_with(personal)) {
                command.env_remove(&name);
            }
        }
        command.envs(&self.environment).stdin(Stdio::null());
        command
    }

    /// Starts the program with its output appended to `log`.
    pub(crate) fn spawn(&self, arguments: &[&str], extra: &[(&str, &str)], log: &Path) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("the log can be written");
        let mut command = self.command(program());
        command.args(arguments).envs(extra.iter().copied());
        command
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("the mesh program starts")
    }

    /// Runs a command of the program to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command(program());
        command.args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        let output = output.expect("no panic").expect("the mesh program can be run");
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Every process that was started here, however deep. Empty where the system does not tell.
    pub(crate) fn processes(&self) -> Vec<Found> {
        processes_with_environment(&format!("{MARK}={}", self.mark)).unwrap_or_default()
    }

    /// Those of them whose program has that name.
    fn processes_of(&self, program: &str) -> Vec<Found> {
        let is_it = |found: &Found| {
            let first = found.arguments.first().map(PathBuf::from);
            first.is_some_and(|path| path.file_name() == Some(OsStr::new(program)))
        };
        self.processes().into_iter().filter(is_it).collect()
    }

    /// The first of that name: the server itself, not Postgres's processes of its own.
    pub(crate) fn server(&self, program: &str) -> Option<u32> {
        let found = self.processes_of(program);
        found.iter().map(|found| found.pid).min()
    }

    /// SIGKILL for all of them, until none is left.
    pub(crate) fn kill_all(&self) {
        let end = Instant::now() + GONE_WITHIN;
        loop {
            let left = self.processes();
            if left.is_empty() || Instant::now() >= end {
                return;
            }
            for found in &left {
                kill_9(found.pid);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// SIGKILL; a process that is gone is no error.
pub(crate) fn kill_9(pid: u32) {
    let pid = i32::try_from(pid).expect("process ids are positive 32-bit numbers");
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// `target/<profile>/mesh`, beside the folder of this test program; another one where the variable names it.
pub(crate) fn program() -> PathBuf {
    if let Some(named) = std::env::var_os(PROGRAM) {
        return named.into();
    }
    let test = std::env::current_exe().expect("this program has a file");
    let folder = test.ancestors().nth(2).expect("it lies in target/<profile>/deps");
    let program = folder.join(format!("mesh{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.is_file(),
        "{} is not built: `cargo build --bins` first (`cargo xtask test` does)",
        program.display()
    );
    program
}
