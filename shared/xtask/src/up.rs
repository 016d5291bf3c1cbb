//! `cargo xtask up`: what is missing is said first, then the servers are fetched, then the UI and
//! the binary are built, and this process becomes `mesh up`.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, bail};
use mesh_servers::{NatsTool, PostgresTool};

use crate::checkout::Checkout;
use crate::report::Report;
use crate::{compile, ui};

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
    Ok(())
}
