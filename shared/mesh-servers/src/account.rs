//! Who runs Postgres when the caller is root, and where that account can get to. Postgres refuses
//! root, and under another uid it cannot pass a 0700 folder.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Gid, Uid, User, chown};

use crate::ServersError;

/// Accounts that Postgres may run as, the best first. It must be known to the system: initdb
/// looks up its name.
const NAMES: [&str; 3] = ["postgres", "_postgres", "nobody"];

/// An unprivileged account that root runs Postgres as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// `None` when the caller is no root and runs Postgres itself. The owner of existing `data`
    /// is taken again, whoever else exists by now.
    pub(crate) fn choose(data: &Path) -> Result<Option<Self>, ServersError> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        if let Ok(meta) = fs::metadata(data)
            && meta.uid() != 0
            && let Ok(Some(user)) = User::from_uid(Uid::from_raw(meta.uid()))
        {
            return Ok(Some(Self::of(user)));
        }
        Self::unprivileged().map(Some)
    }

    /// The account for new data; also `None` when the caller is no root.
    pub(crate) fn for_new_data() -> Result<Option<Self>, ServersError> {
        if Uid::effective().is_root() {
            Self::unprivileged().map(Some)
        } else {
            Ok(None)
        }
    }

    fn unprivileged() -> Result<Self, ServersError> {
        NAMES
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .filter(|user| !user.uid.is_root())
            .map(Self::of)
            .ok_or(ServersError::NoAccount)
    }

    fn of(user: User) -> Self {
        Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        }
    }

    /// Gives a file or folder to this account.
    pub(crate) fn own(&self, path: &Path) -> Result<(), ServersError> {
        chown(path, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
            .map_err(|errno| ServersError::io("change the owner of", path)(errno.into()))
    }

    /// Whether this account may pass every folder down to `path`, and `path` itself. Groups
    /// beyond the first and ACLs do not count: a wrong "no" only moves data elsewhere.
    pub(crate) fn may_enter(&self, path: &Path) -> bool {
        let Ok(path) = fs::canonicalize(path) else {
            return false;
        };
        path.ancestors().all(|folder| {
            fs::metadata(folder).is_ok_and(|meta| {
                let bit = match meta {
                    ref meta if meta.uid() == self.uid => 0o100,
                    ref meta if meta.gid() == self.gid => 0o010,
                    _ => 0o001,
                };
                meta.mode() & bit != 0
            })
        })
    }
}

/// Makes the command run as the account (without one: as the caller), from a folder anyone may
/// enter, and without settings of other Postgres installations.
pub(crate) fn prepare(command: &mut Command, account: Option<&Account>, home: &Path) {
    command
        .current_dir("/")
        .env("HOME", home)
        .env("LC_ALL", "C")
        .env("TZ", "UTC");
    for name in [
        "PGDATA",
        "PGPORT",
        "PGHOST",
        "PGUSER",
        "PGDATABASE",
        "PGOPTIONS",
        "PGSERVICE",
    ] {
        command.env_remove(name);
    }
    if let Some(account) = account {
        // As root, std drops the other groups together with the uid.
        command.uid(account.uid).gid(account.gid);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_closed_folder_keeps_others_out_of_everything_below() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("below");
        fs::create_dir(&below).unwrap();
        let stranger = Account {
            name: "stranger".into(),
            uid: 65_432,
            gid: 65_432,
        };
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        assert!(!stranger.may_enter(&below));
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
        assert!(stranger.may_enter(&below));
        assert!(!stranger.may_enter(&folder.path().join("missing")));
    }
}
