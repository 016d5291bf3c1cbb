//! Who the node is over its starts: its id, its secret and its configuration in one synced file that only its user can
//! read, and an incarnation that grows with each start. One process at a time.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_api::fleet::NodeConfiguration;
use mesh_types::fleet::NodeMode;
use mesh_types::{Clock, NodeId, Tenant};
use serde::{Deserialize, Serialize};

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the state of the node in {} cannot be kept", folder.display())]
    Folder {
        folder: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is no state of a node", file.display())]
    Unreadable {
        file: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("another process is the node of {}", folder.display())]
    InUse { folder: PathBuf },
    #[error("the node of {} is `{known}`, not `{asked}`", folder.display())]
    OtherId {
        folder: PathBuf,
        known: NodeId,
        asked: NodeId,
    },
}

/// What the file holds. Unknown fields of a later version are lost at the next write, and nothing else.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Stored {
    /// Pinned, or given by the mesh; set once.
    #[serde(alias = "name")]
    pub(crate) node_uid: Option<NodeId>,
    /// Grows with each start, also if the state was lost meanwhile.
    pub(crate) incarnation: u64,
    /// What it connects to NATS with; `None` where the mesh demands no credentials.
    pub(crate) secret: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) tenant: Option<Tenant>,
    /// `None`: nothing was configured yet.
    pub(crate) configuration: Option<NodeConfiguration>,
    /// Whether the mesh knows the configuration.
    pub(crate) is_reported: bool,
    /// Where NATS was reached last.
    pub(crate) nats_url: Option<String>,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored")
            .field("node_uid", &self.node_uid)
            .field("incarnation", &self.incarnation)
            .field("secret", &self.secret.as_ref().map(|_| "***"))
            .finish_non_exhaustive()
    }
}

impl Stored {
    /// The user and password of the node at NATS.
    pub(crate) fn user(&self) -> Option<(String, String)> {
        Some((self.node_uid.as_ref()?.to_string(), self.secret.clone()?))
    }

    pub(crate) fn mode(&self) -> NodeMode {
        self.configuration.as_ref().map(|known| known.mode).unwrap_or_default()
    }
}

/// Held as long as the process is this node.
#[derive(Debug)]
pub(crate) struct State {
    place: Place,
    stored: Mutex<Stored>,
    /// Held while the file is written.
    writing: Mutex<()>,
    _lock: File,
}

impl State {
    /// Becomes the node that is kept at `path` for one more start; durable when this returns.
    ///
    /// # Errors
    /// The folder cannot be written, another process has it, or it belongs to a node of another id.
    pub(crate) fn claim(path: &Path, pinned: Option<&NodeId>, clock: &dyn Clock) -> Result<Self, StateError> {
        let place = Place::of(path);
        let folder = &place.folder;
        let failed = |source| StateError::Folder {
            folder: folder.clone(),
            source,
        };
        create_private_folder(folder).map_err(failed)?;
        std::fs::create_dir_all(folder.join("results")).map_err(failed)?;
        let lock = lock(folder, failed)?;
        let mut stored = place.read()?.unwrap_or_default();
        if let (Some(known), Some(asked)) = (&stored.node_uid, pinned)
            && known != asked
        {
            return Err(StateError::OtherId {
                folder: folder.clone(),
                known: known.clone(),
                asked: asked.clone(),
            });
        }
        stored.incarnation = clock.now().as_millis().max(stored.incarnation + 1);
        place.write(&stored)?;
        Ok(Self {
            place,
            stored: Mutex::new(stored),
            writing: Mutex::new(()),
            _lock: lock,
        })
    }

    pub(crate) fn get(&self) -> Stored {
        self.stored().clone()
    }

    pub(crate) fn mode(&self) -> NodeMode {
        self.stored().mode()
    }

    /// Changes what is kept; durable when it returns, and unchanged when it fails.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) async fn change(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Stored) + Send + 'static,
    ) -> Result<Stored, StateError> {
        let state = Arc::clone(self);
        let changed = tokio::task::spawn_blocking(move || {
            let _turn = state.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let known = state.get();
            let mut next = known.clone();
            change(&mut next);
            // Whatever is changed, the node stays who it is.
            next.node_uid = known.node_uid.or(next.node_uid);
            state.place.write(&next)?;
            *state.stored() = next.clone();
            Ok(next)
        });
        changed
            .await
            .unwrap_or_else(|error| Err(self.place.failed(std::io::Error::other(error))))
    }

    /// Where results are kept until they are answered, and what else the node keeps.
    pub(crate) fn folder(&self) -> &Path {
        &self.place.folder
    }

    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state file, and the folder for all the rest.
#[derive(Debug)]
struct Place {
    file: PathBuf,
    folder: PathBuf,
}

impl Place {
    fn of(path: &Path) -> Self {
        if path.extension().is_some_and(|end| end == "json") {
            return Self {
                file: path.to_owned(),
                folder: path.with_extension(""),
            };
        }
        Self {
            file: path.join("node.json"),
            folder: path.to_owned(),
        }
    }

    fn read(&self) -> Result<Option<Stored>, StateError> {
        match std::fs::read(&self.file) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(stored) => Ok(Some(stored)),
                Err(source) => Err(StateError::Unreadable {
                    file: self.file.clone(),
                    source,
                }),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn write(&self, stored: &Stored) -> Result<(), StateError> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let json = serde_json::to_vec_pretty(stored).unwrap_or_default();
        write_synced(folder, &name, &json).map_err(|error| self.failed(error))
    }

    fn failed(&self, source: std::io::Error) -> StateError {
        StateError::Folder {
            folder: self.folder.clone(),
            source,
        }
    }
}

fn lock(folder: &Path, failed: impl Fn(std::io::Error) -> StateError) -> Result<File, StateError> {
    let path = folder.join("lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(&failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StateError::InUse {
            folder: folder.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// All of it or nothing, also over a power cut; only for this user.
pub(crate) fn write_synced(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let path = folder.join(name);
    let temporary = folder.join(format!("{name}.new"));
    let mut file = create_private(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, &path)?;
    File::open(folder)?.sync_all()
}

/// For this user alone, also where it was there before; but for one that everybody shares, such as `/tmp`, and one of
/// another user, who keeps it for himself.
#[cfg(unix)]
pub(crate) fn create_private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    const SHARED: u32 = 0o1000;
    if folder.as_os_str().is_empty() {
        return Ok(());
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder)?;
    let mode = std::fs::metadata(folder)?.permissions().mode();
    if mode & 0o077 != 0
        && mode & SHARED == 0
        && let Err(error) = std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
    {
        tracing::warn!(%error, folder = %folder.display(), "others may list the folder of the node's state");
    }
    Ok(())
}

#[cfg(not(unix))]
pub(crate) fn create_private_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)
}

#[cfg(unix)]
pub(crate) fn create_private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(true).write(true).mode(0o600).open(path)?;
    // One that a crash left behind keeps its own otherwise.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

#[cfg(not(unix))]
pub(crate) fn create_private(path: &Path) -> std::io::Result<File> {
    File::create(path)
}

#[cfg(test)]
mod tests {
    use mesh_types::Timestamp;

    use super::*;

    /// A clock that was never set.
    struct Dead;
    impl Clock for Dead {
        fn now(&self) -> Timestamp {
            Timestamp::EPOCH
        }
        fn monotonic(&self) -> std::time::Duration {
            std::time::Duration::ZERO
        }
    }

    fn id(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn the_uid_stays_and_the_incarnation_grows() {
        let folder = tempfile::tempdir().unwrap();
        let state = Arc::new(State::claim(folder.path(), None, &Dead).unwrap());
        assert_eq!(state.get().node_uid, None);
        let first = state.get().incarnation;
        state
            .change(|stored| stored.node_uid = Some(id("kitchen")))
            .await
            .unwrap();
        let changed = state.change(|stored| {
            stored.node_uid = Some(id("cellar"));
            stored.secret = Some("mns_x".into());
        });
        assert_eq!(changed.await.unwrap().node_uid, Some(id("kitchen")));
        let second = State::claim(folder.path(), None, &Dead);
        assert!(matches!(second, Err(StateError::InUse { .. })), "{second:?}");
        drop(state);
        let other = State::claim(folder.path(), Some(&id("cellar")), &Dead);
        assert!(matches!(other, Err(StateError::OtherId { .. })), "{other:?}");
        let state = State::claim(folder.path(), Some(&id("kitchen")), &Dead).unwrap();
        assert_eq!(state.get().node_uid, Some(id("kitchen")));
        assert_eq!(state.get().secret.as_deref(), Some("mns_x"));
        assert!(state.get().incarnation > first);
        assert!(!format!("{state:?}").contains("mns_x"));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_path_may_name_the_file_which_nobody_else_reads() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("one.json");
        std::fs::write(folder.path().join("one.json.new"), "left behind").unwrap();
        let state = State::claim(&file, None, &Dead).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(state.folder(), folder.path().join("one"));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(state.folder()), 0o700);
        let known = folder.path().join("known");
        for (before, after) in [(0o755, 0o700), (0o1777, 0o1777)] {
            std::fs::create_dir_all(&known).unwrap();
            std::fs::set_permissions(&known, std::fs::Permissions::from_mode(before)).unwrap();
            drop(State::claim(&known, None, &Dead).unwrap());
            assert_eq!(mode(&known), after);
        }
        drop(state);
        std::fs::write(&file, "{").unwrap();
        let torn = State::claim(&file, None, &Dead);
        assert!(matches!(torn, Err(StateError::Unreadable { .. })), "{torn:?}");
    }

    #[test]
    fn the_state_of_an_earlier_version_is_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("node.json"), r#"{"name":"kitchen","incarnation":7}"#).unwrap();
        let state = State::claim(folder.path(), None, &Dead).unwrap();
        assert_eq!(state.get().node_uid, Some(id("kitchen")));
        assert_eq!(state.get().incarnation, 8);
    }
}
