//! Folders for tests: others may enter them (Postgres under root's other account), and one whose
//! test was killed is cleaned up by the next test, its servers included.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::postgres::Postgres;
use crate::{NatsServer, ServersError, files, place};

const PREFIX: &str = "agent-mesh-test-";
const LOCK_FILE: &str = ".lock";

/// A folder that goes when this value goes.
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
    _lock: File,
}

impl ScratchDir {
    /// A new folder below the system's folder for temporary files. What killed tests left there
    /// is removed, once per process.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn new() -> Result<Self, ServersError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let parent = files::canonical(&env::temp_dir())?;
        if count == 0 {
            sweep(&parent);
        }
        let name = format!("{}-{count}-{}", std::process::id(), files::random_hex(4)?);
        // A sweep by another process must find the lock taken: it knows only the final name.
        let fresh = parent.join(format!("agent-mesh-new-{name}"));
        let path = parent.join(format!("{PREFIX}{name}"));
        files::create_folder(&fresh, 0o711)?;
        let lock_path = fresh.join(LOCK_FILE);
        let lock = File::create(&lock_path).map_err(ServersError::io("create", &lock_path))?;
        lock.lock().map_err(ServersError::io("lock", &lock_path))?;
        fs::rename(&fresh, &path).map_err(ServersError::io("create", &path))?;
        Ok(Self { path, _lock: lock })
    }

    /// The folder, without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        clean(&self.path);
    }
}

fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_scratch = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let path = entry.path();
        // Only the death of its process gives the lock back.
        if is_scratch && File::open(path.join(LOCK_FILE)).is_ok_and(|lock| lock.try_lock().is_ok()) {
            clean(&path);
        }
    }
}

/// Removes a folder with the servers whose folders lie in it, and the data they keep elsewhere.
/// What cannot be removed is left to the next sweep.
fn clean(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let _ = NatsServer::stop_leftover(&path);
        let _ = Postgres::stop_leftover(&path);
        let _ = place::remove_data(&path);
    }
    let _ = fs::remove_dir_all(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_folder_goes_with_its_value_and_not_before() {
        let scratch = ScratchDir::new().unwrap();
        let path = scratch.path().to_owned();
        fs::create_dir(path.join("deep")).unwrap();
        sweep(path.parent().unwrap());
        assert!(path.join("deep").is_dir());
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn a_killed_tests_folder_is_swept() {
        let parent = tempfile::tempdir().unwrap();
        let dead = parent.path().join(format!("{PREFIX}1-0-00"));
        let other = parent.path().join("agent-mesh-new-1-0-00");
        for folder in [&dead, &other] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join(LOCK_FILE), "").unwrap();
        }
        sweep(parent.path());
        assert!(!dead.exists() && other.exists());
    }
}
