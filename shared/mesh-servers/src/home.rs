//! One `mesh up` per home: a lock that the system gives back when its holder dies, and a note of
//! what runs where for `mesh status` and `mesh down`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::{ServersError, files, process};

const LOCK_FILE: &str = "mesh.lock";
const STATE_FILE: &str = "state.json";
/// `running` holds a shared lock for an instant; a starting mesh must not take it for another one.
const PROBE_GRACE: Duration = Duration::from_millis(200);

/// What a running mesh tells of itself. The database's address holds its password, so the file
/// is readable by its owner only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeState {
    /// The mesh process.
    pub pid: u32,
    /// Address of the gateway.
    pub http: String,
    /// Address of NATS.
    pub nats: String,
    /// Address of the database.
    pub database: String,
    /// Address of NATS's monitoring, when this mesh started NATS.
    pub monitor: Option<String>,
}

impl HomeState {
    /// The last state written in that home, running or not.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn read(home: &Path) -> Result<Option<Self>, ServersError> {
        let path = home.join(STATE_FILE);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            result => result.map_err(ServersError::io("read", &path))?,
        };
        let broken = |error: serde_json::Error| ServersError::io("read", &path)(error.into());
        serde_json::from_slice(&bytes).map(Some).map_err(broken)
    }
}

/// The right to run a mesh in a home, kept until dropped or until the process ends.
#[derive(Debug)]
pub struct HomeLock {
    home: PathBuf,
    _file: File,
}

impl HomeLock {
    /// Takes the home, creating it if needed. Others may pass through it (Postgres may run under
    /// another account), not list it.
    ///
    /// # Errors
    /// [`ServersError::AlreadyRunning`] when another process has it.
    pub fn acquire(home: &Path) -> Result<Self, ServersError> {
        files::create_folder(home, 0o711)?;
        let home = files::canonical(home)?;
        let path = home.join(LOCK_FILE);
        let mut file = open_lock(&path)?;
        let attempt = process::wait_for(PROBE_GRACE, || match file.try_lock() {
            Ok(()) => Some(Ok(())),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Error(error)) => Some(Err(error)),
        });
        match attempt {
            None => {
                return Err(ServersError::AlreadyRunning {
                    pid: holder(&mut file),
                    home,
                });
            }
            Some(result) => result.map_err(ServersError::io("lock", &path))?,
        }
        let note = |file: &mut File| {
            file.set_len(0)?;
            file.write_all(std::process::id().to_string().as_bytes())
        };
        note(&mut file).map_err(ServersError::io("write", &path))?;
        // What a killed predecessor left says nothing about this one.
        remove_state(&home)?;
        Ok(Self { home, _file: file })
    }

    /// The home without links.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Tells what runs where.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_state(&self, state: &HomeState) -> Result<(), ServersError> {
        let json = serde_json::to_vec_pretty(state).expect("numbers and texts are JSON");
        files::write_private(&self.home.join(STATE_FILE), &json)
    }
}

impl Drop for HomeLock {
    fn drop(&mut self) {
        // Who reads it checks the lock first, so a note that stays behind misleads nobody.
        let _ = remove_state(&self.home);
    }
}

/// Process id of the mesh that runs in that home, if one does. Its [`HomeState`] may not be
/// written yet while it starts.
///
/// # Errors
/// When the lock is there and cannot be asked.
pub fn running(home: &Path) -> Result<Option<u32>, ServersError> {
    let path = home.join(LOCK_FILE);
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.map_err(ServersError::io("open", &path))?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        // The id is written just after the lock is taken.
        Err(TryLockError::WouldBlock) => Ok(process::wait_for(PROBE_GRACE, || holder(&mut file))),
        Err(TryLockError::Error(error)) => Err(ServersError::io("lock", &path)(error)),
    }
}

/// Asks the mesh of that home to stop (SIGTERM) and waits until it has given the home back.
/// Answers its process id; `None` when none runs.
///
/// # Errors
/// [`ServersError::WillNotStop`] after the deadline.
pub fn stop_running(home: &Path, deadline: Duration) -> Result<Option<u32>, ServersError> {
    let Some(pid) = running(home)? else {
        return Ok(None);
    };
    process::signal(pid, Signal::SIGTERM);
    let stopped = process::wait_for(deadline, || match running(home) {
        Ok(Some(now)) if now == pid => None,
        other => Some(other),
    });
    match stopped {
        Some(result) => result.map(|_| Some(pid)),
        None => Err(ServersError::WillNotStop {
            pid,
            what: "mesh up".to_owned(),
        }),
    }
}

fn open_lock(path: &Path) -> Result<File, ServersError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(ServersError::io("open", path))
}

fn holder(file: &mut File) -> Option<u32> {
    use std::io::Seek;
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.parse().ok()
}

fn remove_state(home: &Path) -> Result<(), ServersError> {
    let path = home.join(STATE_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(ServersError::io("remove", &path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> HomeState {
        HomeState {
            pid: std::process::id(),
            http: "http://127.0.0.1:8000".into(),
            nats: "nats://127.0.0.1:4222".into(),
            database: "postgres://mesh:secret@127.0.0.1:5433/mesh".into(),
            monitor: None,
        }
    }

    #[test]
    fn a_second_mesh_in_one_home_is_told_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        let lock = HomeLock::acquire(&home).unwrap();
        let error = HomeLock::acquire(&home).unwrap_err();
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        assert!(matches!(error, ServersError::AlreadyRunning { pid: Some(_), .. }));
        assert_eq!(running(&home).unwrap(), Some(std::process::id()));
        drop(lock);
        assert_eq!(running(&home).unwrap(), None);
        HomeLock::acquire(&home).unwrap();
    }

    #[test]
    fn the_state_is_there_while_the_mesh_runs() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(HomeState::read(folder.path()).unwrap(), None);
        assert_eq!(running(folder.path()).unwrap(), None);
        let lock = HomeLock::acquire(folder.path()).unwrap();
        lock.write_state(&state()).unwrap();
        assert_eq!(HomeState::read(folder.path()).unwrap(), Some(state()));
        drop(lock);
        assert_eq!(HomeState::read(folder.path()).unwrap(), None);
    }

    #[test]
    fn a_state_left_by_a_killed_mesh_is_cleared_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let lock = HomeLock::acquire(folder.path()).unwrap();
        lock.write_state(&state()).unwrap();
        // A kill runs no Drop.
        let copy = fs::read(folder.path().join(STATE_FILE)).unwrap();
        drop(lock);
        fs::write(folder.path().join(STATE_FILE), copy).unwrap();
        let _lock = HomeLock::acquire(folder.path()).unwrap();
        assert_eq!(HomeState::read(folder.path()).unwrap(), None);
    }
}
