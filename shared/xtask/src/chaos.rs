//! `cargo xtask chaos`: builds the mesh and the program `chaos`, which does the rest (tests/chaos).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::checkout::Checkout;
use crate::compile;

const PROGRAMS: [&str; 6] = ["build", "--workspace", "--bin", "mesh", "--bin", "chaos"];
const WITH_BUGS: [&str; 2] = ["--features", "mesh/planted-bugs"];

/// Ends as `chaos` does.
pub(crate) fn run(checkout: &Checkout, arguments: &[String]) -> anyhow::Result<ExitCode> {
    let is_planted = arguments
        .iter()
        .any(|argument| argument == "--planted" || argument.starts_with("--planted="));
    let mut command = if is_planted {
        let buggy = build_buggy(checkout)?;
        let mut command = checkout.command(&program(checkout, "chaos")?.to_string_lossy());
        command.arg("--program").arg(buggy);
        command
    } else {
        checkout.command(&program(checkout, "chaos")?.to_string_lossy())
    };
    let status = command.args(arguments).status().context("cannot run chaos")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Builds both programs and answers one of them.
fn program(checkout: &Checkout, name: &str) -> anyhow::Result<PathBuf> {
    named(compile::run(checkout, "chaos", "building the mesh", &PROGRAMS)?, name)
}

/// A `mesh` with the known bugs, aside: the one that others run is built again after it.
fn build_buggy(checkout: &Checkout) -> anyhow::Result<PathBuf> {
    let arguments = [&PROGRAMS[..], &WITH_BUGS[..]].concat();
    let built = compile::run(checkout, "planted", "building the mesh with bugs", &arguments)?;
    let folder = compile::target_folder(checkout).join("chaos");
    fs::create_dir_all(&folder)?;
    let aside = folder.join(format!("mesh-planted{}", std::env::consts::EXE_SUFFIX));
    copy(&named(built, "mesh")?, &aside)?;
    Ok(aside)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    // Not over it: it may be running.
    let _ = fs::remove_file(to);
    fs::copy(from, to).with_context(|| to.display().to_string())?;
    Ok(())
}

fn named(programs: Vec<PathBuf>, name: &str) -> anyhow::Result<PathBuf> {
    let is_it = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == name);
    match programs.into_iter().find(is_it) {
        Some(program) => Ok(program),
        None => bail!("cargo built no `{name}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_its_name() {
        let built = ["/t/debug/chaos", "/t/debug/mesh"].map(PathBuf::from).to_vec();
        assert_eq!(named(built.clone(), "mesh").unwrap(), Path::new("/t/debug/mesh"));
        assert!(named(built, "other").is_err());
    }
}
