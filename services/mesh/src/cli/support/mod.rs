//! `mesh support-bundle`: what somebody who helps wants to see, in one file, without secrets.

mod collect;
mod scrub;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use super::Session;
use crate::failure::advised;
use crate::output::now;

use collect::{Collected, collect};

/// Collect what somebody who helps you wants to see, without secrets
///
/// Versions, configuration, the report of mesh doctor, streams, services, metrics, passes, counts, and the ends of the
/// logs. Passwords, keys and tokens are replaced by ***. What cannot be had is said in missing.json; nothing is sent
/// anywhere.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SupportArgs {
    /// File to write; it must not be there yet [default: mesh-support-<time>.tar.gz in this folder]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

const EXAMPLES: &str = "Examples:
  mesh support-bundle
  mesh support-bundle --to /tmp/mesh.tar.gz && tar tzf /tmp/mesh.tar.gz

Texts that people wrote to agents may stand in the logs: look before you send it on.";

#[derive(Debug, Serialize)]
struct Bundle {
    file: PathBuf,
    parts: Vec<String>,
    missing: Vec<String>,
}

pub(crate) async fn run(args: SupportArgs, session: &Session) -> anyhow::Result<()> {
    let at = now();
    let file = args.to.unwrap_or_else(|| {
        let text = at.to_string();
        let to_seconds = text.split('.').next().unwrap_or_default();
        format!("mesh-support-{}Z.tar.gz", to_seconds.replace(':', "-")).into()
    });
    if file.exists() {
        let error = anyhow::anyhow!("{} is there already", file.display());
        return Err(advised(error, "name another file with --to, or move it away"));
    }
    let collected = collect(session).await?;
    write(&file, &collected, at.as_millis() / 1_000).with_context(|| format!("cannot write {}", file.display()))?;
    let bundle = Bundle {
        file,
        parts: collected.parts.iter().map(|(name, _)| name.clone()).collect(),
        missing: collected.missing,
    };
    let output = session.output;
    output.show(&bundle, || {
        output.line(&format!("{}: {} parts", bundle.file.display(), bundle.parts.len()))?;
        for missing in &bundle.missing {
            output.line(&format!("not in it: {missing}"))?;
        }
        output.line("Secrets are left out. Texts of people may stand in the logs: look before you send it on.")
    })
}

fn write(file: &std::path::Path, collected: &Collected, seconds: u64) -> anyhow::Result<()> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    let mut tar = tar::Builder::new(GzEncoder::new(opened, Compression::default()));
    for (name, content) in &collected.parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(seconds);
        tar.append_data(&mut header, format!("mesh-support/{name}"), content.as_bytes())?;
    }
    tar.into_inner()?.finish()?.sync_all()?;
    Ok(())
}
