//! House rules that no linter knows: every file opens with `//!` and stays under 400 lines.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::checkout::Checkout;

const FOLDERS: [&str; 3] = ["shared", "services", "tests"];
const SKIPPED: [&str; 3] = ["target", "node_modules", "dist"];
const LINES_MAX: usize = 400;

/// Lists what is untidy, and fails if anything is.
pub(crate) fn run(checkout: &Checkout) -> anyhow::Result<()> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        sources(&checkout.path(folder), &mut files)?;
    }
    let mut complaints = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let name = file.strip_prefix(checkout.root()).unwrap_or(file).display().to_string();
        complaints.extend(complaint(&text).map(|complaint| format!("{name}: {complaint}")));
    }
    if complaints.is_empty() {
        println!("{} files are tidy", files.len());
        return Ok(());
    }
    for complaint in &complaints {
        println!("{complaint}");
    }
    bail!("{} of {} files are not tidy", complaints.len(), files.len());
}

fn complaint(text: &str) -> Option<String> {
    let lines = text.lines().count();
    if !text.starts_with("//!") {
        return Some("does not open with `//!`, one to three lines on what lives here".to_owned());
    }
    (lines >= LINES_MAX).then(|| format!("{lines} lines: split it, or stay under {LINES_MAX}"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !SKIPPED.contains(&name.as_str()) {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_header_or_end_is_untidy() {
        assert_eq!(complaint("//! Here.\nfn a() {}\n"), None);
        assert!(complaint("fn a() {}\n").unwrap().contains("//!"));
        assert_eq!(complaint(&"//! Here.\n".repeat(LINES_MAX - 1)), None);
        assert!(
            complaint(&"//! Here.\n".repeat(LINES_MAX))
                .unwrap()
                .contains("400 lines")
        );
    }

    #[test]
    fn only_sources_are_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        for inside in ["a/src", "ui/node_modules/b"] {
            fs::create_dir_all(folder.path().join(inside)).unwrap();
        }
        for file in ["a/src/lib.rs", "a/Cargo.toml", "ui/node_modules/b/c.rs"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        let mut found = Vec::new();
        sources(folder.path(), &mut found).unwrap();
        assert_eq!(found, [folder.path().join("a/src/lib.rs")]);
    }
}
