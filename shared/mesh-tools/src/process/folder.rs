//! The folder that a process works in: empty, private, gone afterwards.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use mesh_types::{Code, Problem};

const PREFIX: &str = "mesh-run-";

/// Removed with all that is in it when dropped.
#[derive(Debug)]
pub(super) enum Folder {
    Fresh(tempfile::TempDir),
    /// Has the same path each time: some command lines find a conversation again only in the folder it began in.
    Named(PathBuf),
}

impl Folder {
    pub(super) fn fresh() -> Result<Self, Problem> {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir();
        folder.map(Self::Fresh).map_err(|error| failed(&error))
    }

    /// `name` is one path component that the caller has checked.
    pub(super) fn named(name: &str) -> Result<Self, Problem> {
        let path = std::env::temp_dir().join(format!("{PREFIX}{name}"));
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            // Left by a process that was killed. Somebody else's, or a link, is not ours to work in.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_ours(&path) => {}
            Err(error) => return Err(failed(&error)),
        }
        Ok(Self::Named(path))
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Fresh(folder) => folder.path(),
            Self::Named(path) => path,
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Self::Named(path) = self
            && let Err(error) = std::fs::remove_dir_all(&*path)
        {
            tracing::debug!(%error, path = %path.display(), "the folder of a process stays");
        }
    }
}

fn is_ours(path: &Path) -> bool {
    std::fs::symlink_metadata(path)
        .is_ok_and(|found| found.is_dir() && found.uid() == rustix::process::geteuid().as_raw())
}

fn failed(error: &io::Error) -> Problem {
    Problem::new(Code::ToolFailed, format!("no folder to run it in: {error}"))
        .next("make room and allow writing where TMPDIR points to")
}
