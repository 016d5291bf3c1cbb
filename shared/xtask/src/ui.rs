//! Builds the UI when there is one, and only after a change: the binary embeds its `dist`. Runs its tests, those in a
//! real browser against the built `mesh`.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};

use crate::checkout::Checkout;
use crate::counts::Counts;
use crate::{compile, programs};

const FOLDER: &str = "services/gateway/ui";
/// Made by the build or only for tests, so no part of what decides whether to build.
const MADE: [&str; 6] = [
    "node_modules",
    "dist",
    "test-results",
    "coverage",
    "screenshots",
    "browser",
];

/// Builds it unless nothing changed since the last time. Without a UI in the checkout: nothing.
pub(crate) fn build(checkout: &Checkout) -> anyhow::Result<()> {
    let folder = checkout.path(FOLDER);
    if !folder.join("package.json").is_file() {
        return Ok(());
    }
    let sources = hash_of(&all_files(&folder)?)?;
    let note = compile::target_folder(checkout).join("xtask-ui");
    let is_built = folder.join("dist/index.html").is_file();
    if is_built && fs::read_to_string(&note).is_ok_and(|noted| noted == sources) {
        return Ok(());
    }
    programs::require_node()?;
    install(checkout, &folder)?;
    npm(checkout, &folder, &["run", "build"])?;
    fs::create_dir_all(compile::target_folder(checkout))?;
    fs::write(&note, sources).with_context(|| note.display().to_string())
}

/// Runs the UI's own tests, if it has any.
pub(crate) fn test(checkout: &Checkout) -> anyhow::Result<()> {
    let folder = checkout.path(FOLDER);
    if folder.join("package.json").is_file() {
        build(checkout)?;
        npm(checkout, &folder, &["test", "--if-present"])?;
    }
    Ok(())
}

/// Runs the tests in a real browser, which start a `mesh` of their own: the built one.
pub(crate) fn browse(checkout: &Checkout) -> anyhow::Result<Counts> {
    let folder = checkout.path(FOLDER);
    if !folder.join("package.json").is_file() {
        return Ok(Counts::default());
    }
    build(checkout)?;
    let browser = programs::require_chromium()?;
    let mesh = compile::target_folder(checkout)
        .join("debug")
        .join(format!("mesh{}", env::consts::EXE_SUFFIX));
    let mut child = checkout
        .command("npm")
        .args(["run", "browser", "--silent"])
        .env("CHROMIUM", browser)
        .env("MESH_BINARY", mesh)
        .current_dir(&folder)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run npm")?;
    let stdout = child.stdout.take().context("npm has no stdout")?;
    let mut counts = Counts::default();
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        println!("{line}");
        counts += Counts::of_line(&line).unwrap_or_default();
    }
    if !child.wait()?.success() && counts.failed == 0 {
        counts.failed = 1;
    }
    Ok(counts)
}

/// Packages, unless they are those of the lock file already.
pub(crate) fn install(checkout: &Checkout, folder: &Path) -> anyhow::Result<()> {
    let lock = hash_of(&[folder.join("package-lock.json")])?;
    let note = folder.join("node_modules/.xtask-lock");
    if fs::read_to_string(&note).is_ok_and(|noted| noted == lock) {
        return Ok(());
    }
    npm(checkout, folder, &["ci", "--no-audit", "--no-fund"])?;
    fs::write(&note, lock).with_context(|| note.display().to_string())
}

pub(crate) fn npm(checkout: &Checkout, folder: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = checkout.command("npm");
    let status = command
        .args(arguments)
        .current_dir(folder)
        .status()
        .context("cannot run npm")?;
    if !status.success() {
        bail!("`npm {}` failed in {}", arguments.join(" "), folder.display());
    }
    Ok(())
}

fn all_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let name = entry.file_name();
            if MADE.iter().any(|made| name == *made) {
                continue;
            }
            let list = if entry.file_type()?.is_dir() {
                &mut open
            } else {
                &mut found
            };
            list.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Of names and contents. Another Rust may give another number, which costs one build.
fn hash_of(files: &[PathBuf]) -> anyhow::Result<String> {
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
        fs::read(file)
            .with_context(|| file.display().to_string())?
            .hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_source_asks_for_a_build_and_a_built_file_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let state = || hash_of(&all_files(folder.path()).unwrap()).unwrap();
        fs::create_dir_all(folder.path().join("src")).unwrap();
        fs::create_dir_all(folder.path().join("dist")).unwrap();
        fs::write(folder.path().join("src/main.ts"), "one").unwrap();
        let before = state();
        fs::write(folder.path().join("dist/index.html"), "built").unwrap();
        assert_eq!(state(), before);
        fs::write(folder.path().join("src/main.ts"), "two").unwrap();
        assert_ne!(state(), before);
    }
}
