//! `cargo xtask up`: what is missing is said first, then the servers are fetched, then the UI and
//! the binary are built, and this process becomes `mesh up`.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, bail};
use mesh_servers::{EmbedderWeights, NatsTool, PostgresTool};

use crate::checkout::Checkout;
use crate::report::Report;
use crate::{compile, ui};

/// What makes the local embedder's weights useless, in the environment.
const OTHER_EMBEDDERS: [&str; 4] = [
    "EMBEDDING_API_URL",
    "MESH_MEMORY__EMBEDDER",
    "MESH_MEMORY__EMBEDDING_MODEL",
    "MESH_MEMORY__EMBEDDING_WEIGHTS",
];

/// Comes back only with an error.
pub(crate) fn run(checkout: &Checkout, arguments: &[String]) -> anyhow::Result<()> {
    fetch_servers()?;
    ui::build(checkout)?;
    let build = ["build", "--workspace", "--bin", "mesh", "--profile", "up"];
    let programs = compile::run(checkout, "up", "building the mesh", &build)?;
    let is_mesh = |path: &&std::path::PathBuf| path.file_stem().is_some_and(|stem| stem == "mesh");
    let Some(program) = programs.iter().find(is_mesh) else {
        bail!("cargo built no `mesh`");
    };
    // In the caller's folder: MESH_HOME is relative to it.
    let error = Command::new(program).arg("up").args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// Before the long build, because it fails for reasons that a person has to clear away.
fn fetch_servers() -> anyhow::Result<()> {
    let is_given = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let mut report = Report::new("servers", 0);
    if !is_given("MESH_NATS_URL") {
        NatsTool::resolve(&mut report)?;
    }
    if !is_given("MESH_DATABASE_URL") {
        PostgresTool::resolve(&mut report)?;
    }
    // `mesh up` asks the whole configuration; without the weights it starts all the same.
    let has_other_embedder = OTHER_EMBEDDERS.iter().any(|name| is_given(name));
    if !has_other_embedder && let Err(error) = EmbedderWeights::resolve(&mut report) {
        report.print(&format!("{error}"));
    }
    Ok(())
}
