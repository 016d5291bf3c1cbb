//! Programs that are on this machine already, if they are new enough.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Version;
use crate::account::Account;

use super::{NATS_VERSION_MIN, NatsTool, POSTGRES_MAJOR_MIN, PostgresTool, version_of};

/// The first pgvector with `halfvec`.
const PGVECTOR_VERSION_MIN: Version = Version::new(0, 7, 0);

/// Where packages of Postgres 18 put programs without putting them on PATH.
const POSTGRES_FOLDERS: [&str; 4] = [
    "/usr/lib/postgresql/18/bin",
    "/usr/pgsql-18/bin",
    "/opt/homebrew/opt/postgresql@18/bin",
    "/usr/local/opt/postgresql@18/bin",
];

pub(super) fn nats() -> Option<NatsTool> {
    on_path("nats-server").into_iter().find_map(|program| {
        let version = version_of(&program).ok()?;
        (version >= NATS_VERSION_MIN).then_some(NatsTool { program, version })
    })
}

/// A Postgres with pgvector, which the account that will run it can reach.
pub(super) fn postgres(account: Option<&Account>) -> Option<PostgresTool> {
    let on_path = on_path("postgres")
        .into_iter()
        .filter_map(|path| fs::canonicalize(path).ok());
    let on_path = on_path.filter_map(|path| path.parent().map(Path::to_owned));
    on_path
        .chain(POSTGRES_FOLDERS.iter().map(PathBuf::from))
        .find_map(|bin| {
            let is_reachable = account.is_none_or(|account| account.may_enter(&bin));
            if !is_reachable || !bin.join("initdb").is_file() {
                return None;
            }
            let version = version_of(&bin.join("postgres")).ok()?;
            let is_new = version.major >= POSTGRES_MAJOR_MIN && has_pgvector(&bin);
            is_new.then_some(PostgresTool { bin, version })
        })
}

fn on_path(program: &str) -> Vec<PathBuf> {
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders)
        .map(|folder| folder.join(program))
        .filter(|p| p.is_file())
        .collect()
}

fn has_pgvector(bin: &Path) -> bool {
    let told = Command::new(bin.join("pg_config")).arg("--sharedir").output().ok();
    let told = told.and_then(|output| String::from_utf8(output.stdout).ok());
    let told = told.map(|text| PathBuf::from(text.trim()));
    let beside = ["../share/postgresql", "../share"].map(|share| bin.join(share));
    told.into_iter()
        .chain(beside)
        .filter_map(|share| fs::read_to_string(share.join("extension/vector.control")).ok())
        .any(|control| control_version(&control).is_some_and(|it| it >= PGVECTOR_VERSION_MIN))
}

/// The version in an extension's control file: `default_version = '0.8.5'`.
fn control_version(control: &str) -> Option<Version> {
    let line = control
        .lines()
        .find(|line| line.trim_start().starts_with("default_version"))?;
    Version::find(line.split_once('=')?.1.trim().trim_matches('\''))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_tells_its_version() {
        let control = "comment = 'vector data type'\ndefault_version = '0.8.5'\nrelocatable = true\n";
        assert_eq!(control_version(control), Some(Version::new(0, 8, 5)));
        assert_eq!(control_version("comment = 'x'\n"), None);
    }

    #[test]
    fn a_postgres_without_pgvector_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        fs::create_dir_all(&bin).unwrap();
        assert!(!has_pgvector(&bin));
        let share = folder.path().join("share/extension");
        fs::create_dir_all(&share).unwrap();
        fs::write(share.join("vector.control"), "default_version = '0.6.2'\n").unwrap();
        assert!(!has_pgvector(&bin));
        fs::write(share.join("vector.control"), "default_version = '0.8.0'\n").unwrap();
        assert!(has_pgvector(&bin));
    }
}
