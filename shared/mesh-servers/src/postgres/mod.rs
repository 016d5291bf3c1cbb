//! One PostgreSQL in one folder: `data/`, `password`, `postgres.log`. What is in the database
//! belongs to the migrations; here there is a role `mesh` and its empty database `mesh`.

mod cluster;
mod settings;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::account::{self, Account};
use crate::process::{self, Found, Server, StopPlan};
use crate::{POSTGRES_PORT_VARIABLE, PostgresTool, ServersError, place, ports, probe};

/// Role and database.
const NAME: &str = "mesh";
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// Fast (a checkpoint, clients are cut off), immediate (recovery at the next start), none.
const STOP: StopPlan = &[
    (Signal::SIGINT, Duration::from_secs(30)),
    (Signal::SIGQUIT, Duration::from_secs(5)),
    (Signal::SIGKILL, Duration::from_secs(5)),
];
const STOP_NOW: StopPlan = &[
    (Signal::SIGQUIT, Duration::from_secs(5)),
    (Signal::SIGKILL, Duration::from_secs(5)),
];
/// How often another free port, or memory of a killed server, is tried.
const ATTEMPTS: u32 = 20;
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What a Postgres is started with.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Its folder, created if needed; a link to the real one when root's other account could not
    /// reach it here.
    pub dir: PathBuf,
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Without fsync: a crash of the machine may lose everything. For tests only.
    pub fast_for_tests: bool,
    /// More settings (`name`, `value`), the last word on each.
    pub settings: Vec<(String, String)>,
}

impl PostgresOptions {
    /// A durable server in that folder, on a free port.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            port: 0,
            fast_for_tests: false,
            settings: Vec::new(),
        }
    }
}

/// A running Postgres; stopped when dropped.
#[derive(Debug)]
pub struct Postgres {
    tool: PostgresTool,
    options: PostgresOptions,
    account: Option<Account>,
    dir: PathBuf,
    password: String,
    server: Server,
    port: u16,
}

impl Postgres {
    /// Creates the cluster if there is none, starts it and waits until it takes connections (at
    /// most 30 s). One that a killed predecessor left running on the same folder is stopped first.
    ///
    /// # Errors
    /// [`ServersError::PortBusy`]; [`ServersError::Start`] with the end of the log; data that is
    /// of another version or owner; a folder that root's other account cannot reach.
    pub fn start(tool: &(impl AsRef<PostgresTool> + ?Sized), options: PostgresOptions) -> Result<Self, ServersError> {
        let tool = tool.as_ref().clone();
        let account = Account::choose(&options.dir.join("data"))?;
        let dir = place::settle(&options.dir, account.as_ref())?;
        stop_leftover_at(&dir)?;
        let password = cluster::ensure(&tool, &dir, account.as_ref(), options.fast_for_tests)?;
        let (server, port) = launch(&tool, &options, account.as_ref(), &dir)?;
        Ok(Self {
            tool,
            options,
            account,
            dir,
            password,
            server,
            port,
        })
    }

    /// Stops a server that a killed predecessor left running on that folder, if there is one.
    ///
    /// # Errors
    /// [`ServersError::WillNotStop`].
    pub fn stop_leftover(dir: &Path) -> Result<(), ServersError> {
        fs::canonicalize(dir).map_or(Ok(()), |dir| stop_leftover_at(&dir))
    }

    /// Address with user and password, `postgres://mesh:…@127.0.0.1:<port>/mesh`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(NAME)
    }

    /// The same for another database of this server.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{NAME}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Process id of the postmaster.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Its log.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        log_path(&self.dir)
    }

    /// Whether the postmaster lives.
    pub fn is_running(&mut self) -> bool {
        self.server.exit().is_none()
    }

    /// How it ended and the end of its log, if it has ended.
    pub fn exit(&mut self) -> Option<String> {
        let status = self.server.exit()?;
        Some(format!("{status}\n{}", self.server.log_tail()))
    }

    /// Stops it in order, cutting clients off.
    ///
    /// # Errors
    /// [`ServersError::WillNotStop`].
    pub fn stop(&mut self) -> Result<(), ServersError> {
        self.server.stop(STOP)
    }

    /// Kills the postmaster (SIGKILL); its other processes notice and end by themselves.
    ///
    /// # Errors
    /// [`ServersError::WillNotStop`].
    pub fn kill(&mut self) -> Result<(), ServersError> {
        self.server.stop(process::KILL)
    }

    /// Starts it again on the same folder and port, stopping it first if it lives.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn restart(&mut self) -> Result<(), ServersError> {
        self.stop()?;
        let options = PostgresOptions {
            port: self.port,
            ..self.options.clone()
        };
        (self.server, self.port) = launch(&self.tool, &options, self.account.as_ref(), &self.dir)?;
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A test's data is thrown away: no checkpoint. Else nobody is left to tell of a failure,
        // and the next start stops what stayed.
        let _ = self
            .server
            .stop(if self.options.fast_for_tests { STOP_NOW } else { STOP });
    }
}

fn log_path(dir: &Path) -> PathBuf {
    dir.join("postgres.log")
}

/// Postmasters of that data folder; its other processes have other command lines.
fn postmasters(dir: &Path) -> Vec<Found> {
    let data = cluster::data_path(dir);
    let arguments = ["-D", &*data.to_string_lossy()];
    process::all()
        .into_iter()
        .filter(|found| found.runs("postgres", &arguments))
        .collect()
}

pub(crate) fn stop_leftover_at(dir: &Path) -> Result<(), ServersError> {
    postmasters(dir)
        .iter()
        .try_for_each(|found| process::stop_found(found, STOP))
}

fn launch(
    tool: &PostgresTool,
    options: &PostgresOptions,
    account: Option<&Account>,
    dir: &Path,
) -> Result<(Server, u16), ServersError> {
    let data = cluster::data_path(dir);
    if options.port != 0 {
        ports::check_free(options.port, POSTGRES_PORT_VARIABLE)?;
    }
    let mut attempt = 1;
    loop {
        let port = match options.port {
            0 => ports::free_port().map_err(ServersError::io("take a port for", dir))?,
            port => port,
        };
        settings::write(&data, &settings::render(options, port), account)?;
        remove_stale_pid_file(&data)?;
        let mut command = Command::new(tool.bin.join("postgres"));
        command.arg("-D").arg(&data);
        account::prepare(&mut command, account, &data);
        let mut server = Server::spawn("postgres", command, &log_path(dir))?;
        let accepts = || probe::postgres_accepts(port, NAME, NAME).ok()?.then_some(());
        let Err(error) = server.wait_ready(READY_DEADLINE, accepts) else {
            return Ok((server, port));
        };
        let tail = server.log_tail();
        server.stop(STOP)?;
        let is_busy = tail.contains("Address already in use");
        if is_busy && options.port != 0 {
            return Err(ServersError::PortBusy {
                port,
                variable: POSTGRES_PORT_VARIABLE,
            });
        }
        // Processes of a killed postmaster need a moment to notice.
        let is_passing = is_busy || tail.contains("pre-existing shared memory block");
        if !is_passing || attempt == ATTEMPTS {
            return Err(error);
        }
        attempt += 1;
        std::thread::sleep(RETRY_PAUSE);
    }
}

/// After a kill the file stays, and its number may by now be another process's: Postgres would
/// refuse to start. No postmaster of this folder runs when this is called.
fn remove_stale_pid_file(data: &Path) -> Result<(), ServersError> {
    let path = data.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&path) else {
        return Ok(());
    };
    let pid = text.lines().next().and_then(|line| line.trim().parse().ok());
    let is_postgres = |found: &Found| found.runs("postgres", &[]);
    if pid.and_then(process::find).is_some_and(|found| is_postgres(&found)) {
        // Let Postgres decide: it may be a server that someone else runs on this data.
        return Ok(());
    }
    fs::remove_file(&path).map_err(ServersError::io("remove", &path))
}
