//! The log of a mesh in its home.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// A log over this is set aside at a start; one old one is kept.
const BYTES_MAX: u64 = 32 * 1024 * 1024;

pub(crate) fn path(home: &Path) -> PathBuf {
    home.join("mesh.log")
}

/// Opens the log for appending; readable by its owner only.
pub(super) fn open(home: &Path) -> anyhow::Result<File> {
    let path = path(home);
    if fs::metadata(&path).is_ok_and(|meta| meta.len() > BYTES_MAX) {
        fs::rename(&path, path.with_extension("log.1"))
            .with_context(|| format!("cannot set {} aside", path.display()))?;
    }
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    opened.with_context(|| format!("cannot open the log {}", path.display()))
}

/// The end of the log, from `offset` on and at most so many lines.
pub(super) fn tail(home: &Path, offset: u64, lines: usize) -> String {
    let bytes = fs::read(path(home)).unwrap_or_default();
    let from = usize::try_from(offset).unwrap_or(0).min(bytes.len());
    let text = String::from_utf8_lossy(&bytes[from..]).into_owned();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_has_grown_is_set_aside_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = open(folder.path()).unwrap();
        file.set_len(BYTES_MAX + 1).unwrap();
        open(folder.path()).unwrap();
        assert_eq!(fs::metadata(path(folder.path())).unwrap().len(), 0);
        assert_eq!(
            fs::metadata(folder.path().join("mesh.log.1")).unwrap().len(),
            BYTES_MAX + 1
        );
    }

    #[test]
    fn the_tail_begins_where_this_start_began() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(path(folder.path()), "old\none\ntwo\nthree\n").unwrap();
        assert_eq!(tail(folder.path(), 4, 2), "two\nthree");
        assert_eq!(tail(folder.path(), 4, 9), "one\ntwo\nthree");
    }
}
