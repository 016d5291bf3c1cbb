//! A started mesh: its home and ports stay the same over kills and starts.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_nats::Client;
use mesh_servers::{HomeState, ScratchDir};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use super::launch::{MARK, program};
use super::{FakeModel, Http, Launch, Ran, until};

/// A start with a fresh database on a machine that is busy with other tests.
const UP_SECONDS: u64 = 90;
/// Lines of the log that a failed test shows.
const TAIL_LINES: usize = 60;

pub(crate) struct Mesh {
    pub(crate) launch: Launch,
    pub(crate) model: FakeModel,
    http_port: u16,
    nats_port: u16,
    running: Mutex<Option<Child>>,
    reaper: Option<Reaper>,
    // Last: whoever still runs must not lose its files first.
    home: ScratchDir,
}

impl Mesh {
    /// The mesh of all tests that leave others alone, started by the first of them. It ends with this program.
    pub(crate) async fn shared() -> &'static Self {
        static SHARED: tokio::sync::OnceCell<Mesh> = tokio::sync::OnceCell::const_new();
        SHARED.get_or_init(|| async { Self::up().await }).await
    }

    pub(crate) async fn up() -> Self {
        Self::up_with(&[]).await
    }

    /// With more environment.
    pub(crate) async fn up_with(extra: &[(&str, String)]) -> Self {
        let mesh = Self::prepare(extra);
        mesh.start(&[]).await;
        mesh
    }

    /// Home, ports and model, with nothing started.
    pub(crate) fn prepare(extra: &[(&str, String)]) -> Self {
        let home = ScratchDir::new().expect("a folder for the test");
        let model = FakeModel::start();
        let (http_port, nats_port) = (free_port(), free_port());
        let mut environment = vec![
            ("MESH_HOME", home.path().display().to_string()),
            ("MESH_HTTP_PORT", http_port.to_string()),
            ("MESH_NATS_PORT", nats_port.to_string()),
            ("MESH_POSTGRES_PORT", free_port().to_string()),
            ("OPENAI_BASE_URL", model.base_url()),
            ("OPENAI_API_KEY", "of-a-test".to_owned()),
        ];
        environment.extend_from_slice(extra);
        let launch = Launch::new(&environment);
        Self {
            reaper: Some(Reaper::start(&launch)),
            launch,
            model,
            http_port,
            nats_port,
            running: Mutex::new(None),
            home,
        }
    }

    /// `mesh up` on the same home and ports, with more environment; returns once `/health` says ok.
    pub(crate) async fn start(&self, extra: &[(&str, &str)]) {
        let child = self.launch.spawn(&["up"], extra, &self.log());
        *self.running() = Some(child);
        self.until_healthy().await;
    }

    pub(crate) async fn until_healthy(&self) {
        let http = self.http();
        until(UP_SECONDS, "the mesh is healthy", || async {
            assert!(!self.has_ended(), "mesh up has ended:\n{}", self.log_tail());
            http.try_get("/health").await.filter(|health| health.status == 200)
        })
        .await;
    }

    /// SIGKILL for the mesh and every server that it started, at once.
    pub(crate) fn kill_9(&self) {
        let child = self.running().take();
        if let Some(mut child) = child {
            // Knows whether the process is still there, its id alone does not.
            let _ = child.kill();
            self.launch.kill_all();
            let _ = child.wait();
        }
    }

    /// SIGKILL for the mesh only; its servers live on until the next start.
    pub(crate) fn kill_9_alone(&self) {
        let child = self.running().take();
        let mut child = child.expect("it was started");
        child.kill().expect("it can be killed");
        child.wait().expect("it was killed");
    }

    /// Waits until the mesh process has ended by itself; its servers may live.
    pub(crate) async fn until_dead(&self) {
        until(30, "the mesh process dies", || async { self.has_ended().then_some(()) }).await;
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running().as_ref().expect("it was started").id()
    }

    /// Runs a command of the program against this mesh.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> Ran {
        self.launch.run(arguments).await
    }

    /// In the name of the tenant that the gateway takes without a header.
    pub(crate) fn http(&self) -> Http {
        Http::new(format!("http://127.0.0.1:{}", self.http_port))
    }

    /// The first start of a mesh that demands credentials makes one API key, of `admin`.
    pub(crate) fn admin_key(&self) -> String {
        let key = std::fs::read_to_string(self.home.path().join("api-key"));
        key.expect("the first start wrote it").trim().to_owned()
    }

    /// Its MESH_HOME.
    pub(crate) fn home(&self) -> &std::path::Path {
        self.home.path()
    }

    pub(crate) fn nats_port(&self) -> u16 {
        self.nats_port
    }

    pub(crate) fn state(&self) -> HomeState {
        let state = HomeState::read(self.home.path()).expect("the state can be read");
        state.expect("a running mesh has a state")
    }

    pub(crate) async fn nats(&self) -> Client {
        async_nats::connect(self.state().nats)
            .await
            .expect("NATS takes connections")
    }

    /// A superuser's pool, to look at what was written.
    pub(crate) async fn database(&self) -> PgPool {
        let options = PgPoolOptions::new().max_connections(2);
        let pool = options.connect(&self.state().database).await;
        pool.expect("Postgres takes connections")
    }

    /// What `mesh up` wrote into the log of its home so far.
    pub(crate) fn log_file(&self) -> String {
        std::fs::read_to_string(self.home.path().join("mesh.log")).unwrap_or_default()
    }

    fn has_ended(&self) -> bool {
        let mut running = self.running();
        let child = running.as_mut().expect("it was started");
        child.try_wait().expect("a child can be asked").is_some()
    }

    fn running(&self) -> MutexGuard<'_, Option<Child>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("e2e.log")
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the mesh's last words:\n{}", self.log_tail());
        }
        self.kill_9();
        // Also what was started in the background.
        self.launch.kill_all();
        drop(self.reaper.take());
    }
}

/// Stops a mesh when this test program ends without dropping it: the one in a static, or all of them when it is
/// killed. Its pipe breaks then.
struct Reaper {
    shell: Child,
    _pipe: Option<ChildStdin>,
}

impl Reaper {
    fn start(launch: &Launch) -> Self {
        let mut command = launch.command("sh");
        command
            .args([
                "-c",
                r#"cat >/dev/null; "$0" down >/dev/null 2>&1; rm -rf -- "$MESH_HOME""#,
            ])
            .arg(program())
            // It is not what it reaps.
            .env_remove(MARK)
            // Ctrl-C must not reach it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut shell = command.spawn().expect("a shell starts");
        let pipe = shell.stdin.take();
        Self { shell, _pipe: pipe }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        // Before its pipe breaks: there is nothing left to reap.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    mesh_servers::free_port().expect("a port is free")
}
