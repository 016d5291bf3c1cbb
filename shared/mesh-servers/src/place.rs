//! Where data may lie when another account must reach it. As a user: where it was asked for. As
//! root below a folder others cannot enter: under a folder of root's that everyone may enter,
//! with a link left in the place that was asked for.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::account::Account;
use crate::{ServersError, files, postgres};

/// Root's own folders that others may enter, the best first.
const SHARED: [&str; 3] = ["/var/lib/agent-mesh", "/var/tmp/agent-mesh", "/tmp/agent-mesh"];

/// A folder that the account may enter: the first of [`SHARED`] that can be had.
pub(crate) fn shared_folder(account: &Account) -> Result<PathBuf, ServersError> {
    let is_ours = |path: &Path| {
        // Someone else's folder or link under /tmp must not be trusted with programs and data.
        fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir() && meta.uid() == 0 && meta.mode() & 0o022 == 0)
    };
    SHARED
        .iter()
        .map(PathBuf::from)
        .find(|path| files::create_folder(path, 0o755).is_ok() && is_ours(path) && account.may_enter(path))
        .ok_or_else(|| ServersError::Unreachable {
            user: account.name.clone(),
            path: PathBuf::from(SHARED[0]),
        })
}

/// The real folder behind `wanted`, created, without links and within the account's reach.
pub(crate) fn settle(wanted: &Path, account: Option<&Account>) -> Result<PathBuf, ServersError> {
    if fs::symlink_metadata(wanted).is_ok_and(|meta| meta.is_symlink()) && !wanted.exists() {
        fs::remove_file(wanted).map_err(ServersError::io("remove the dead link", wanted))?;
    }
    files::create_folder(wanted, 0o711)?;
    let real = files::canonical(wanted)?;
    let Some(account) = account else {
        return Ok(real);
    };
    if account.may_enter(&real) {
        return Ok(real);
    }
    match fs::remove_dir(&real) {
        Ok(()) => relocate(wanted, &real, account),
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Err(ServersError::Unreachable {
            user: account.name.clone(),
            path: real,
        }),
        Err(error) => Err(ServersError::io("remove the empty folder", &real)(error)),
    }
}

fn relocate(wanted: &Path, real: &Path, account: &Account) -> Result<PathBuf, ServersError> {
    let digest = Sha256::digest(real.as_os_str().as_encoded_bytes());
    let name = hex::encode(&digest[..8]);
    let parent = shared_folder(account)?.join("data");
    files::create_folder(&parent, 0o755)?;
    let target = parent.join(&name);
    // Without the link its data belongs to a home that was removed: set aside, never deleted.
    if target.exists() {
        postgres::stop_leftover_at(&target)?;
        let aside = (1..).map(|number| parent.join(format!("{name}.{number}")));
        let aside = aside
            .into_iter()
            .find(|path| !path.exists())
            .expect("numbers do not end");
        fs::rename(&target, &aside).map_err(ServersError::io("set aside", &target))?;
    }
    files::create_folder(&target, 0o711)?;
    symlink(&target, wanted).map_err(ServersError::io("link", wanted))?;
    Ok(target)
}

/// Removes a server's folder, also where it is a link to data kept elsewhere. The server must be
/// stopped. A folder that does not exist is fine.
///
/// # Errors
/// When a file cannot be removed.
pub fn remove_data(path: &Path) -> Result<(), ServersError> {
    let remove = |path: &Path| match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(ServersError::io("remove", path)(error)),
        _ => Ok(()),
    };
    let Ok(meta) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !meta.is_symlink() {
        return remove(path);
    }
    let target = fs::read_link(path).map_err(ServersError::io("read the link", path))?;
    // A link that a person made leads to what is theirs.
    if SHARED.iter().any(|shared| target.starts_with(shared)) {
        remove(&target)?;
    }
    fs::remove_file(path).map_err(ServersError::io("remove the link", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_folder_is_where_it_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = folder.path().join("a/postgres");
        let real = settle(&wanted, None).unwrap();
        assert!(real.is_dir() && real.ends_with("a/postgres"));
        remove_data(&wanted).unwrap();
        assert!(!wanted.exists());
        remove_data(&wanted).unwrap();
    }

    #[test]
    fn removing_a_persons_link_leaves_what_it_leads_to() {
        let folder = tempfile::tempdir().unwrap();
        let theirs = folder.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        let link = folder.path().join("postgres");
        symlink(&theirs, &link).unwrap();
        remove_data(&link).unwrap();
        assert!(theirs.is_dir() && fs::symlink_metadata(&link).is_err());
    }

    #[test]
    fn a_dead_link_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("postgres");
        symlink(folder.path().join("gone"), &link).unwrap();
        assert!(settle(&link, None).unwrap().is_dir());
    }
}
