//! Real processes: small shell programs that each test writes, among them ones that speak the agents' protocols.

mod cli;
mod script;
mod transcript;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const MUCH: usize = 1024 * 1024;

/// A folder with a program `name` in it, which notes what it is given in files beside it.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// `body` is shell; `$bench` is this folder.
    fn program(&self, name: &str, body: &str) -> String {
        let path = self.path(name);
        let bench = self.folder.path().display();
        std::fs::write(&path, format!("#!/bin/sh\nbench='{bench}'\n{body}")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn noted(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    async fn pid(&self, name: &str) -> u32 {
        mesh_testkit::wait_until(LONG, async || self.noted(name).ends_with('\n')).await;
        self.noted(name).trim().parse().unwrap()
    }
}

/// Whether a process runs; one that ended and was not reaped yet by its parent does not.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with(['Z', 'X']))
}
