//! A home of a test's own with its mesh: started on free ports, stopped and deleted at the end.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something.
pub(crate) fn wait_until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "still waiting until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The program with nothing of this test's environment that speaks to it.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let is_ours = name.starts_with("MESH_") && name != "MESH_CACHE";
        let is_alias = [
            "NATS_URL",
            "DATABASE_URL",
            "OPENAI_API_KEY",
            "RUST_LOG",
            "NO_COLOR",
            "COLUMNS",
        ]
        .contains(&&*name);
        if is_ours || is_alias {
            command.env_remove(&*name);
        }
    }
    command.stdin(Stdio::null());
    command
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a run printed and how it ended, for messages.
pub(crate) fn told(output: &Output) -> String {
    format!("{}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr))
}

pub(crate) struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.args(arguments).env("MESH_HOME", self.path().join("home"));
        for port in ["MESH_HTTP_PORT", "MESH_NATS_PORT", "MESH_POSTGRES_PORT"] {
            command.env(port, "0");
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed; what it printed.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "mesh {}: {}",
            arguments.join(" "),
            told(&output)
        );
        text(&output.stdout)
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        serde_json::from_str(&self.done(&arguments)).unwrap()
    }

    /// A mesh in the foreground, once it is healthy.
    pub(crate) fn foreground(&self) -> (Child, Value) {
        let mut child = self
            .command(&["up"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let status = wait_until("the mesh is healthy", || {
            assert!(
                child.try_wait().unwrap().is_none(),
                "it ended: {}",
                text(&self.run(&["logs"]).stdout)
            );
            self.healthy()
        });
        (child, status)
    }

    /// The status, if it says that all is well.
    pub(crate) fn healthy(&self) -> Option<Value> {
        let output = self.run(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        output.status.success().then_some(status)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Root's data may lie outside the home; a reset finds it.
        let reset = self.run(&["reset", "--yes"]);
        if !thread::panicking() {
            assert!(reset.status.success(), "{}", told(&reset));
        }
    }
}

/// Whether anyone listens at the address of a URL.
pub(crate) fn answers(url: &str) -> bool {
    let authority = url.split("://").nth(1).unwrap().split('/').next().unwrap();
    let address = authority.rsplit('@').next().unwrap();
    TcpStream::connect(address).is_ok()
}

/// No server of that status is left.
pub(crate) fn assert_nothing_is_left(status: &Value) {
    for name in ["http", "nats", "database"] {
        let url = status[name].as_str().unwrap();
        assert!(!answers(url), "{name} still answers");
    }
}
