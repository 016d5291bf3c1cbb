//! Files of containers: replaced in one step, given to who is to read them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::Context as _;
use mesh_servers::write_private;
use nix::unistd::{Gid, Uid, chown, getegid, geteuid};

/// Who may read what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Open {
    /// Its owner alone.
    Owner,
    /// A person, who may change it.
    Person,
    /// Whoever has it mounted: the number of that container's user is its image's secret.
    All,
}

impl Open {
    /// The database's image has a user of its own; everything else runs as the one we chose.
    pub(super) fn of(path: &str) -> Self {
        match path.split('/').next() {
            Some("postgres") => Self::All,
            _ => Self::Owner,
        }
    }

    fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o400,
            Self::Person => 0o600,
            Self::All => 0o444,
        }
    }
}

/// A user and his group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Belongs {
    user: Uid,
    group: Gid,
}

impl Belongs {
    /// The user of that number with the group of the same one.
    pub(crate) fn to(id: u32) -> Self {
        let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
        Self { user, group }
    }

    /// Whoever has that file or folder.
    pub(crate) fn as_of(path: &Path) -> anyhow::Result<Self> {
        let facts = fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
        Ok(Self {
            user: Uid::from_raw(facts.uid()),
            group: Gid::from_raw(facts.gid()),
        })
    }

    pub(crate) fn to_who_runs() -> Self {
        Self {
            user: geteuid(),
            group: getegid(),
        }
    }
}

/// Gives it away, where root runs this; nobody else can.
pub(crate) fn own(path: &Path, belongs: &Belongs, mode: u32) -> anyhow::Result<()> {
    let context = || format!("cannot give {} away", path.display());
    // Before it is given away: afterwards root without every capability may not.
    fs::set_permissions(path, Permissions::from_mode(mode)).with_context(context)?;
    if geteuid().is_root() {
        chown(path, Some(belongs.user), Some(belongs.group)).with_context(context)?;
    }
    Ok(())
}

/// Writes it unless it is there with that content; whether it wrote.
pub(crate) fn put(path: &Path, content: &[u8], belongs: &Belongs, open: Open) -> anyhow::Result<bool> {
    let is_there = fs::read(path).is_ok_and(|found| found == content);
    if !is_there {
        write_private(path, content)?;
        own(path, belongs, open.mode())?;
    }
    Ok(!is_there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_when_it_differs_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let me = Belongs::as_of(folder.path()).unwrap();
        assert!(put(&path, b"one", &me, Open::Owner).unwrap());
        assert!(!put(&path, b"one", &me, Open::Owner).unwrap());
        assert!(put(&path, b"two", &me, Open::All).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o444);
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }
}
