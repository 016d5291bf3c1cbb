//! `mesh restore`: an archive back onto servers. Everything that can be known before is looked at before anything changes.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::anyhow;
use clap::Args;

use super::archive::Archive;
use super::bar::Bar;
use super::load::{self, Held};
use super::target::{Purpose, Target};
use super::{or_stopped, print, streams, summary};
use crate::cli::{Session, blocking};
use crate::failure::{Usage, advised};
use crate::output::took;
use crate::up::{lazy_sync, without_password};

/// Bring back what `mesh backup` wrote, onto servers that hold no mesh
///
/// Takes the servers that MESH_DATABASE_URL and MESH_NATS_URL name, else those of MESH_HOME, where no mesh may run. The
/// whole file is checked first. PostgreSQL changes in one transaction; after an interruption the same command does it
/// again.
///
/// Afterwards the mesh goes on where the backup was taken: what was queued runs, what waited waits on, API keys and
/// passwords are good, nodes come back with the keys they have, and watchers start anew. Steps that ran after the
/// backup was taken run again.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RestoreArgs {
    /// What `mesh backup` wrote
    file: PathBuf,
    /// Replace a mesh that is there, whose data are lost
    #[arg(long)]
    replace: bool,
    /// Replace without asking
    #[arg(short, long)]
    yes: bool,
    /// Also while services answer on this NATS; what they do meanwhile is undefined
    #[arg(long)]
    force: bool,
}

const EXAMPLES: &str = "Examples:
  mesh restore mesh-backup-2026-11-22T03-00-00Z.tar && mesh up
  mesh restore monday.tar --replace --yes
  MESH_DATABASE_URL=postgres://mesh:secret@db/mesh MESH_NATS_URL=nats://nats:4222 \\
    mesh restore monday.tar

`mesh audit verify` checks the audit afterwards; `mesh doctor` everything else.";

pub(crate) async fn run(args: RestoreArgs, session: &Session) -> anyhow::Result<()> {
    or_stopped(bring_back(args, session)).await
}

async fn bring_back(args: RestoreArgs, session: &Session) -> anyhow::Result<()> {
    let began = Instant::now();
    let archive = open(&args, session)?;
    let target = Target::reach(session, Purpose::Restore).await?;
    target.bus.check_server(lazy_sync(&session.environment)).await?;
    refuse_while_served(&args, &target).await?;
    let url = target.database_url.expose();
    if !agree_to_replace(&args, session, &target, &load::held(url).await?).await? {
        return session.output.line("nothing was changed");
    }
    let bar = Bar::new(session.output, archive.manifest.bytes());
    bar.stage("restoring the tables of PostgreSQL");
    load::load(url, &archive, &bar).await?;
    bar.stage("restoring the streams of NATS");
    let replicas = session.environment.nats_replicas;
    streams::copy_in(&target.bus, &archive, replicas, &bar)
        .await
        .map_err(|error| {
            let error = error.context("PostgreSQL is restored, NATS is not");
            advised(error, "run the same command again")
        })?;
    load::finish(url).await?;
    drop(bar);
    let size = std::fs::metadata(&args.file).map_or(0, |meta| meta.len());
    let summary = summary(&archive.manifest, args.file.clone(), size, began);
    let output = session.output;
    output.show(&summary, || {
        output.line(&format!(
            "restored {} of {} in {}",
            summary.file.display(),
            summary.created_at,
            took(began.elapsed())
        ))?;
        print(&archive.manifest, output)?;
        output.line("Start the services (mesh up); then mesh audit verify checks the audit.")
    })
}

/// The archive, if it is whole and this program knows its schema.
fn open(args: &RestoreArgs, session: &Session) -> anyhow::Result<Archive> {
    let size = std::fs::metadata(&args.file).map_or(0, |meta| meta.len());
    let bar = Bar::new(session.output, size);
    bar.stage("checking the file");
    let archive = Archive::open(&args.file, |bytes| bar.advance(bytes))?;
    let manifest = &archive.manifest;
    let (schema, known) = (manifest.database.schema, mesh_store::schema_version());
    if schema > known {
        let error = anyhow!(
            "{} was made by mesh {} with schema {schema}, and this mesh knows {known}",
            args.file.display(),
            manifest.mesh
        );
        return Err(advised(error, format!("use mesh {} or newer", manifest.mesh)));
    }
    Ok(archive)
}

async fn refuse_while_served(args: &RestoreArgs, target: &Target) -> anyhow::Result<()> {
    if args.force {
        return Ok(());
    }
    let services = target.services().await?;
    if services.is_empty() {
        return Ok(());
    }
    let error = anyhow!("services answer on this NATS: {}", services.join(", "));
    Err(advised(error, "stop them first; --force restores beneath them"))
}

/// Whether to go on; an error where nobody said so.
async fn agree_to_replace(args: &RestoreArgs, session: &Session, target: &Target, held: &Held) -> anyhow::Result<bool> {
    let messages = streams::held(&target.bus).await?;
    if held.is_unfinished {
        session
            .output
            .note("a restore was cut off here: this one replaces what it left");
        return Ok(true);
    }
    if held.rows.is_empty() && messages.is_empty() {
        return Ok(true);
    }
    let lost = lost(held, &messages);
    let database = without_password(target.database_url.expose());
    if !args.replace {
        let error = anyhow!("there is a mesh already: {lost} ({database})");
        return Err(advised(
            error,
            "name empty servers, or say --replace, and all of that is lost",
        ));
    }
    if args.yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Usage(format!("--replace loses {lost}: say --yes to mean it")).into());
    }
    let question = format!("Replace {lost} ({database})?");
    blocking(move || inquire::Confirm::new(&question).with_default(false).prompt()).await
}

/// What people know by name first; everything else is "other rows".
fn lost(held: &Held, messages: &[(String, u64)]) -> String {
    let rows = |label: &str| held.rows.get(label).copied().unwrap_or(0);
    let mut parts = Vec::new();
    let mut named = 0;
    for (what, label) in super::COUNTED {
        let count = rows(label);
        named += count;
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    let others = held.rows.values().sum::<i64>() - named;
    if others > 0 {
        parts.push(format!("{others} other rows"));
    }
    parts.extend(
        messages
            .iter()
            .map(|(stream, count)| format!("{count} messages in {stream}")),
    );
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_lost_is_named() {
        let rows = [("registry.agent", 2), ("memory.memory", 5), ("registry.artifact", 3)];
        let rows = rows.map(|(label, count)| (label.to_owned(), count)).into();
        let held = Held {
            rows,
            is_unfinished: false,
        };
        assert_eq!(
            lost(&held, &[("INVOCATIONS".into(), 7)]),
            "2 agents, 5 memories, 3 other rows, 7 messages in INVOCATIONS"
        );
    }
}
