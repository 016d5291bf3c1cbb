//! Small file helpers shared by the servers: folders others may enter, private files, log tails.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::ServersError;

/// A log beyond this is set aside at the next start, so that two of them bound the disk used.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;
const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 15;

/// Creates the folder and those above it, and gives `mode` to the folder if it was not there
/// (whatever the umask).
pub(crate) fn create_folder(path: &Path, mode: u32) -> Result<(), ServersError> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(ServersError::io("create the folder", path))
}

/// The path without links and dots.
pub(crate) fn canonical(path: &Path) -> Result<PathBuf, ServersError> {
    fs::canonicalize(path).map_err(ServersError::io("find", path))
}

/// Replaces the file in one step; only its owner may read it.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), ServersError> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let write = || {
        // A left-over of an interrupted write may have other permissions.
        if fresh.exists() {
            fs::remove_file(&fresh)?;
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().map_err(ServersError::io("write", path))
}

/// Opens a server's log for appending, first setting a large one aside as `….old`.
pub(crate) fn open_log(path: &Path) -> Result<File, ServersError> {
    let open = || {
        if fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_BYTES_MAX) {
            fs::rename(path, path.with_extension("log.old"))?;
        }
        OpenOptions::new().append(true).create(true).mode(0o600).open(path)
    };
    open().map_err(ServersError::io("open the log", path))
}

/// What a log holds beyond `from` bytes, at most its last 15 lines; empty when unreadable, since
/// it only decorates an error.
pub(crate) fn tail(path: &Path, from: u64) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL_BYTES)).min(length)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map(|_| bytes)
    };
    let bytes = read().unwrap_or_default();
    last_lines(&String::from_utf8_lossy(&bytes))
}

/// The last 15 lines of a text.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Random bytes of the system, as lower-case hex.
pub(crate) fn random_hex(bytes: usize) -> Result<String, ServersError> {
    let source = Path::new("/dev/urandom");
    let mut buffer = vec![0; bytes];
    File::open(source)
        .and_then(|mut file| file.read_exact(&mut buffer))
        .map_err(ServersError::io("read", source))?;
    Ok(hex::encode(buffer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_file_is_replaced_and_readable_by_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_tail_is_short_and_starts_where_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let lines: Vec<String> = (0..100).map(|line| format!("line {line}")).collect();
        fs::write(&path, lines.join("\n")).unwrap();
        let text = tail(&path, 0);
        assert!(
            text.ends_with("line 99") && text.lines().count() == TAIL_LINES,
            "{text}"
        );
        assert_eq!(tail(&path, fs::metadata(&path).unwrap().len()), "");
        assert_eq!(tail(&folder.path().join("none"), 0), "");
    }
}
