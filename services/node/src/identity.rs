//! Who the node is over its starts: its name, and an incarnation that grows with each of them. One process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use mesh_runtime::Context;
use mesh_types::{Id, InstanceId, NodeId};
use serde::{Deserialize, Serialize};

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
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
    OtherName {
        folder: PathBuf,
        known: NodeId,
        asked: NodeId,
    },
}

/// Held as long as the process is this node.
#[derive(Debug)]
pub struct Identity {
    pub name: NodeId,
    /// Grows with each start, also if the state was lost meanwhile.
    pub incarnation: u64,
    folder: PathBuf,
    _lock: File,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    name: NodeId,
    incarnation: u64,
}

impl Identity {
    /// Becomes the node of `folder` for one more start; durable when this returns.
    ///
    /// # Errors
    /// The folder cannot be written, another process has it, or it belongs to a node of another name.
    pub fn claim(folder: &Path, name: Option<&NodeId>, context: &Context) -> Result<Self, IdentityError> {
        let failed = |source| IdentityError::Folder {
            folder: folder.to_owned(),
            source,
        };
        std::fs::create_dir_all(folder.join("results")).map_err(failed)?;
        let lock = lock(folder, failed)?;
        let file = folder.join("node.json");
        let known = match std::fs::read(&file) {
            Ok(bytes) => {
                let stored = serde_json::from_slice::<Stored>(&bytes);
                Some(stored.map_err(|source| IdentityError::Unreadable {
                    file: file.clone(),
                    source,
                })?)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        if let (Some(known), Some(asked)) = (&known, name)
            && known.name != *asked
        {
            return Err(IdentityError::OtherName {
                folder: folder.to_owned(),
                known: known.name.clone(),
                asked: asked.clone(),
            });
        }
        let now = context.clock.now().as_millis();
        let stored = Stored {
            incarnation: known.as_ref().map_or(now, |known| now.max(known.incarnation + 1)),
            name: match known {
                Some(known) => known.name,
                None => name.cloned().unwrap_or_else(|| made_up(context)),
            },
        };
        let json = serde_json::to_vec(&stored).unwrap_or_default();
        write_synced(folder, "node.json", &json).map_err(failed)?;
        Ok(Self {
            name: stored.name,
            incarnation: stored.incarnation,
            folder: folder.to_owned(),
            _lock: lock,
        })
    }

    /// Where results are kept until they are answered.
    pub(crate) fn results(&self) -> PathBuf {
        self.folder.join("results")
    }
}

fn lock(folder: &Path, failed: impl Fn(std::io::Error) -> IdentityError) -> Result<File, IdentityError> {
    let path = folder.join("lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(&failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(IdentityError::InUse {
            folder: folder.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn made_up(context: &Context) -> NodeId {
    let ulid = context.ids.next::<InstanceId>().ulid();
    format!("nod_{ulid}").parse().expect("a ULID is a token")
}

/// All of it or nothing, also over a power cut.
pub(crate) fn write_synced(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let path = folder.join(name);
    let temporary = folder.join(format!("{name}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, &path)?;
    File::open(folder)?.sync_all()
}
