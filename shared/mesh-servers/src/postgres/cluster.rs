//! Makes the cluster: complete under its name, or not there. A start that is killed half-way is
//! repeated from the beginning.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::Uid;

use crate::account::{self, Account};
use crate::{PostgresTool, ServersError, files, place};

use super::NAME;

const PASSWORD_BYTES: usize = 24;

pub(super) fn data_path(dir: &Path) -> PathBuf {
    dir.join("data")
}

/// Makes sure of a cluster in `dir` and answers the role's password.
pub(super) fn ensure(
    tool: &PostgresTool,
    dir: &Path,
    account: Option<&Account>,
    fast_for_tests: bool,
) -> Result<String, ServersError> {
    let data = data_path(dir);
    let password_path = dir.join("password");
    if data.exists() {
        check(tool, &data)?;
        let password = fs::read_to_string(&password_path);
        return password.map_err(ServersError::io("read the password", &password_path));
    }
    let password = files::random_hex(PASSWORD_BYTES)?;
    files::write_private(&password_path, password.as_bytes())?;
    let staging = dir.join("data.new");
    place::remove_data(&staging)?;
    files::create_folder(&staging, 0o700)?;
    let handed = dir.join("password.new-role");
    files::write_private(&handed, password.as_bytes())?;
    if let Some(account) = account {
        account.own(&staging)?;
        account.own(&handed)?;
    }
    let maker = Maker {
        tool,
        account,
        data: &staging,
    };
    maker.initdb(&handed)?;
    fs::remove_file(&handed).map_err(ServersError::io("remove", &handed))?;
    maker.create_database()?;
    if !fast_for_tests {
        maker.sync()?;
    }
    fs::rename(&staging, &data).map_err(ServersError::io("create", &data))?;
    Ok(password)
}

/// Refuses data that this program or user cannot serve, before Postgres does in its own words.
fn check(tool: &PostgresTool, data: &Path) -> Result<(), ServersError> {
    let meta = fs::metadata(data).map_err(ServersError::io("read", data))?;
    let me = Uid::effective();
    if !me.is_root() && meta.uid() != me.as_raw() {
        return Err(ServersError::Owner {
            path: data.to_owned(),
            owner: meta.uid(),
        });
    }
    let Ok(version) = fs::read_to_string(data.join("PG_VERSION")) else {
        return Err(ServersError::NotACluster { path: data.to_owned() });
    };
    let (found, wanted) = (version.trim().to_owned(), tool.version.major);
    if found != wanted.to_string() {
        return Err(ServersError::ClusterVersion {
            path: data.to_owned(),
            found,
            wanted,
        });
    }
    // Postgres refuses data that others may read, as a copied or mounted folder can be.
    let permissions = Permissions::from_mode(0o700);
    fs::set_permissions(data, permissions).map_err(ServersError::io("close", data))
}

struct Maker<'a> {
    tool: &'a PostgresTool,
    account: Option<&'a Account>,
    data: &'a Path,
}

impl Maker<'_> {
    fn initdb(&self, password: &Path) -> Result<(), ServersError> {
        let mut command = self.command("initdb");
        command
            .args(["--username", NAME, "--auth", "scram-sha-256", "--encoding", "UTF8"])
            .args(["--locale", "C", "--locale-provider", "builtin"])
            .args(["--builtin-locale", "C.UTF-8", "--no-sync", "--no-instructions"])
            .arg("--pwfile")
            .arg(password)
            .arg("-D")
            .arg(self.data);
        self.run(command, "")
    }

    /// By a server in single-user mode: no port, no client, no password.
    fn create_database(&self) -> Result<(), ServersError> {
        let mut command = self.command("postgres");
        // All settings in their words, so that a failed statement shows as a failed program.
        command.args(["--single", "-j", "-c", "fsync=off", "-c", "exit_on_error=on", "-D"]);
        command.arg(self.data).arg("postgres");
        self.run(command, &format!("CREATE DATABASE {NAME};\n\n"))
    }

    /// Everything above ran without fsync; one pass makes it durable.
    fn sync(&self) -> Result<(), ServersError> {
        let mut command = self.command("initdb");
        command.arg("--sync-only").arg("-D").arg(self.data);
        self.run(command, "")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.tool.bin.join(program));
        account::prepare(&mut command, self.account, self.data);
        command
    }

    fn run(&self, mut command: Command, input: &str) -> Result<(), ServersError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |source| ServersError::Run { program, source };
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let run = || {
            let mut child = command.spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                // A program that ends early tells why itself.
                let _ = stdin.write_all(input.as_bytes());
            }
            child.wait_with_output()
        };
        let output = { run }().map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        let detail = files::last_lines(&String::from_utf8_lossy(&said));
        Err(ServersError::Cluster {
            path: self.data.to_owned(),
            detail,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Version;

    fn tool() -> PostgresTool {
        PostgresTool {
            bin: "/nowhere".into(),
            version: Version::new(18, 4, 0),
        }
    }

    #[test]
    fn data_of_another_version_is_refused_with_both_versions() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("PG_VERSION"), "17\n").unwrap();
        let text = check(&tool(), folder.path()).unwrap_err().to_string();
        assert!(
            text.contains("PostgreSQL 17") && text.contains("PostgreSQL 18"),
            "{text}"
        );
        fs::write(folder.path().join("PG_VERSION"), "18\n").unwrap();
        check(&tool(), folder.path()).unwrap();
    }

    #[test]
    fn a_folder_of_something_else_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let data = data_path(folder.path());
        fs::create_dir(&data).unwrap();
        fs::write(data.join("thesis.txt"), "years").unwrap();
        let error = ensure(&tool(), folder.path(), None, true).unwrap_err();
        assert!(matches!(error, ServersError::NotACluster { .. }), "{error}");
        assert!(data.join("thesis.txt").exists());
    }
}
