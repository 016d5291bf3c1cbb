//! Where the official clients come from: wheels and packages pinned by hash, installed once per machine.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// `tests/clients` of the checkout.
const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients");

/// A script of one client.
pub(crate) struct Script {
    name: &'static str,
    kind: Kind,
    environment: BTreeMap<String, String>,
}

#[derive(Clone, Copy)]
enum Kind {
    Python,
    JavaScript,
}

impl Script {
    pub(crate) fn python(name: &'static str) -> Self {
        Self::new(name, Kind::Python)
    }

    pub(crate) fn javascript(name: &'static str) -> Self {
        Self::new(name, Kind::JavaScript)
    }

    fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            environment: BTreeMap::new(),
        }
    }

    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Runs it to its end, which is a success after so many checks.
    pub(crate) async fn passes(self, checks: usize) {
        let name = self.name;
        let ran = tokio::task::spawn_blocking(move || self.command().output()).await;
        let ran = ran.expect("no panic").expect("the script can be run");
        let (said, failed) = (
            String::from_utf8_lossy(&ran.stdout),
            String::from_utf8_lossy(&ran.stderr),
        );
        assert!(ran.status.success(), "{name} failed after\n{said}\n{failed}");
        let passed = said.lines().filter(|line| line.starts_with("ok ")).count();
        assert_eq!(passed, checks, "{name} checked\n{said}");
    }

    fn command(&self) -> Command {
        let mut command = match self.kind {
            Kind::Python => {
                let mut command = Command::new(python());
                command
                    .arg(format!("{CLIENTS}/python/{}.py", self.name))
                    .env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
            Kind::JavaScript => {
                let script = format!("{CLIENTS}/js/{}.mjs", self.name);
                let script = fs::read_to_string(script).expect("the script can be read");
                let mut command = Command::new("node");
                // A script that is given as text imports from where it runs.
                command
                    .args(["--input-type=module", "--eval", &script])
                    .current_dir(packages());
                command
            }
        };
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_ascii_lowercase();
            if text.ends_with("_proxy") || text.starts_with("openai_") {
                command.env_remove(&name);
            }
        }
        command.envs(&self.environment).stdin(Stdio::null());
        command
    }
}

/// The interpreter of an environment that has the Python clients.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let lock = format!("{CLIENTS}/requirements.lock");
        let folder = made("clients-python", &lock, |folder| {
            run(Command::new("python3").args(["-m", "venv"]).arg(folder));
            let pip = [
                "-m",
                "pip",
                "--disable-pip-version-check",
                "--no-input",
                "install",
                "--quiet",
            ];
            let pinned = ["--require-hashes", "--only-binary", ":all:", "--requirement"];
            run(Command::new(folder.join("bin/python"))
                .args(pip)
                .args(pinned)
                .arg(&lock));
        });
        folder.join("bin/python")
    })
}

/// A folder with the JavaScript clients.
fn packages() -> &'static Path {
    static PACKAGES: OnceLock<PathBuf> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let source = Path::new(CLIENTS).join("js");
        let lock = source.join("package-lock.json");
        made("clients-js", &lock.display().to_string(), |folder| {
            fs::create_dir_all(folder).expect("the folder can be made");
            for name in ["package.json", "package-lock.json"] {
                fs::copy(source.join(name), folder.join(name)).expect("it can be copied");
            }
            let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"];
            run(Command::new("npm").args(arguments).current_dir(folder));
        })
    })
}

/// A folder in the user's cache that `make` fills once for each lock file; one process at a time does.
fn made(name: &str, lock: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    fs::read(lock).expect("the lock file can be read").hash(&mut hasher);
    let cache = cache();
    fs::create_dir_all(&cache).expect("the cache can be made");
    let folder = cache.join(format!("{name}-{:016x}", hasher.finish()));
    let guard = File::create(cache.join(format!("{name}.lock"))).expect("the lock can be made");
    guard.lock().expect("the lock can be held");
    let is_made = folder.join(".made");
    if !is_made.is_file() {
        // Of a process that was killed.
        let _ = fs::remove_dir_all(&folder);
        make(&folder);
        fs::write(&is_made, "").expect("it can be noted");
    }
    folder
}

/// As that of the servers.
fn cache() -> PathBuf {
    let named = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    named("MESH_CACHE")
        .or_else(|| named("XDG_CACHE_HOME").map(|folder| folder.join("agent-mesh")))
        .or_else(|| named("HOME").map(|folder| folder.join(".cache/agent-mesh")))
        .expect("HOME is set")
}

fn run(command: &mut Command) {
    let ran = command.stdin(Stdio::null()).output().expect("the program can be run");
    assert!(
        ran.status.success(),
        "{command:?} failed:\n{}\n{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
}
