//! `mesh backup` and `mesh restore`: everything of a mesh in one file, while it runs, and back onto empty servers.
//!
//! Streams are copied first and PostgreSQL after them, for work moves from NATS to PostgreSQL and never back. What is
//! accepted before the beginning is then in one of the copies at least, wherever the copying finds it:
//! - in INVOCATIONS, and taken in before the rows are copied: in both. Intake makes the invocation's id of the message's
//!   place and time, which a copy keeps: the second time it finds the first.
//! - in INVOCATIONS, and still there afterwards: in its copy only; the restored intake takes it in.
//! - from INVOCATIONS to DEAD_LETTERS meanwhile: INVOCATIONS is copied first, so it is in one or in both. Its row in
//!   `dead_letter` has an id made in the same way.
//! - a fact that was published to EVENTS after EVENTS was copied, and is marked as published in the rows: a restore takes
//!   the mark from everything marked since the beginning, so that it is published again under the same id. The same holds
//!   for what the relay told JOURNAL and DEAD_LETTERS of (`relayed_batch`).
//! - accepted by HTTP: committed before its answer, so it is among the rows.
//!
//! The other order would lose every message that was taken in and acknowledged between the two copies.

mod archive;
mod bar;
mod dump;
mod load;
mod manifest;
mod restore;
mod streams;
mod target;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use futures::StreamExt;
use indicatif::HumanBytes;
use mesh_bus::LazySync;
use mesh_runtime::lifecycle::signals;
use mesh_types::Timestamp;
use serde::Serialize;

use super::Session;
use super::setup::{Belongs, own};
use crate::output::{Output, Table, now, took};

use archive::Writer;
use bar::Bar;
use dump::Dump;
use manifest::{FORMAT, Manifest};
use target::{Purpose, Target};

pub(super) use restore::{RestoreArgs, run as restore};

/// Copy everything of a mesh into one file: agents, invocations, memories, people, pending work
///
/// Takes the servers that MESH_DATABASE_URL and MESH_NATS_URL name, else those of the mesh in MESH_HOME, which may run
/// or not. Work goes on meanwhile: all that was accepted before the beginning is in the file.
///
/// The file is as secret as the database: it holds hashes of passwords and keys, and the keys that sign tokens. Only its
/// owner may read it. credentials.json of MESH_HOME is not in it, and need not be: a restored mesh makes its own, and nodes
/// come back with the keys they have. Providers' keys and other configuration are not in it either.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BackupArgs {
    /// File to write; it must not be there yet [default: mesh-backup-<time>.tar in this folder]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// File or folder whose owner gets the backup, where root runs this
    #[arg(long, value_name = "PATH")]
    owner_of: Option<PathBuf>,
}

const EXAMPLES: &str = "Examples:
  mesh backup
  mesh backup --to /backups/monday.tar
  mesh backup --json | jq -r .file
  MESH_DATABASE_URL=postgres://mesh:secret@db/mesh MESH_NATS_URL=nats://nats:4222 mesh backup
  docker compose run --rm backup

`mesh restore FILE` brings it back. Configuration (MESH_…, the configuration file) is kept by whoever deploys.";

/// What people ask for first.
const COUNTED: [(&str, &str); 8] = [
    ("agents", "registry.agent"),
    ("versions", "registry.version"),
    ("invocations", "execution.invocation"),
    ("open invocations", "execution.open"),
    ("memories", "memory.memory"),
    ("documents", "memory.document"),
    ("messages", "messaging.message"),
    ("people", "identity.person"),
];

#[derive(Debug, Serialize)]
struct Summary<'a> {
    file: PathBuf,
    bytes: u64,
    created_at: Timestamp,
    mesh: &'a str,
    schema: i64,
    /// Rows by table.
    tables: BTreeMap<String, u64>,
    /// Messages by stream.
    streams: BTreeMap<&'a str, u64>,
    took_ms: u64,
}

pub(crate) async fn run(args: BackupArgs, session: &Session) -> anyhow::Result<()> {
    or_stopped(back_up(args, session)).await
}

/// Ends in order at a signal: what is half written is removed, and servers that were started are stopped.
async fn or_stopped(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut signals = signals().context("cannot listen for signals")?;
    tokio::select! {
        done = work => done,
        _ = signals.next() => anyhow::bail!("stopped before it was done"),
    }
}

async fn back_up(args: BackupArgs, session: &Session) -> anyhow::Result<()> {
    let (began, created_at) = (Instant::now(), now());
    let file = args.to.unwrap_or_else(|| default_name(created_at));
    let mut archive = Writer::create(&file, created_at)?;
    let target = Target::reach(session, Purpose::Backup).await?;
    let nats_server = target.bus.check_server(LazySync::Allow).await?.version;
    let url = target.database_url.expose();
    let relayed = dump::relayed(url).await?;
    let bar = Bar::new(session.output, 0);
    bar.stage("copying the streams of NATS");
    let streams = streams::copy_out(&target.bus, &mut archive, &bar).await?;
    bar.stage("copying the tables of PostgreSQL");
    let dump = Dump::begin(url).await?;
    bar.expect(dump.bytes());
    let database = dump.copy(relayed, &mut archive, &bar).await?;
    let manifest = Manifest {
        format: FORMAT,
        mesh: env!("CARGO_PKG_VERSION").to_owned(),
        created_at,
        database,
        streams,
        nats_server,
    };
    let bytes = archive.finish(&manifest)?;
    drop(bar);
    if let Some(like) = &args.owner_of {
        give(&file, &Belongs::as_of(like)?)?;
    }
    let summary = summary(&manifest, file, bytes, began);
    let output = session.output;
    output.show(&summary, || {
        output.line(&format!(
            "{} ({}) in {}",
            summary.file.display(),
            HumanBytes(bytes),
            took(began.elapsed())
        ))?;
        print(&manifest, output)?;
        output.line("Keep it as secret as the database. mesh restore FILE brings it back.")
    })
}

/// A container engine makes a folder that is not there as root's: whoever gets the file gets that, too.
fn give(file: &Path, owner: &Belongs) -> anyhow::Result<()> {
    own(file, owner, 0o600)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let ours = Belongs::to_who_runs();
    if *owner != ours && Belongs::as_of(folder)? == ours {
        own(folder, owner, 0o700)?;
    }
    Ok(())
}

fn summary(manifest: &Manifest, file: PathBuf, bytes: u64, began: Instant) -> Summary<'_> {
    let tables = manifest.database.tables.iter();
    Summary {
        file,
        bytes,
        created_at: manifest.created_at,
        mesh: &manifest.mesh,
        schema: manifest.database.schema,
        tables: tables.map(|table| (table.label(), table.rows)).collect(),
        streams: manifest.messages(),
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

fn print(manifest: &Manifest, output: Output) -> anyhow::Result<()> {
    let mut table = Table::new(output, &["WHAT", "COUNT"]);
    for (what, label) in COUNTED {
        table.row([what.to_owned(), manifest.rows(label).to_string()]);
    }
    for (stream, messages) in manifest.messages() {
        table.row([format!("messages in {stream}"), messages.to_string()]);
    }
    table.print()
}

/// Colons are no part of file names everywhere.
fn default_name(at: Timestamp) -> PathBuf {
    let text = at.to_string();
    let to_seconds = text.split('.').next().unwrap_or_default();
    format!("mesh-backup-{}Z.tar", to_seconds.replace(':', "-")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_its_time() {
        let name = default_name(Timestamp::EPOCH);
        assert_eq!(name.to_str(), Some("mesh-backup-1970-01-01T00-00-00Z.tar"));
    }
}
