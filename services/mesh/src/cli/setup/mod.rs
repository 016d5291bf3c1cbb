//! `mesh setup`: makes what the containers of one installation share as secrets, once, and lays it out as a folder for
//! each of them. Nothing here speaks to a network.

mod files;
mod nats;
mod vault;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::Session;
use super::session::blocking;
use crate::services::Service;

pub(crate) use files::{Belongs, Open, own, put};
use vault::Vault;

/// Make the secrets of an installation in containers, one folder for each of them
///
/// Makes them at the first start and leaves them alone afterwards; what a later version needs besides is added. Each
/// container mounts its own folder only. A start that was killed half way is finished by the next one.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SetupArgs {
    /// Folder to fill
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Where services reach NATS; several separated by commas
    #[arg(long, value_name = "HOST:PORT", default_value = "nats:4222", value_delimiter = ',')]
    nats: Vec<String>,
    /// Where services reach PostgreSQL
    #[arg(long, value_name = "HOST:PORT", default_value = "postgres:5432")]
    postgres: String,
    /// Node that gets a folder for its join token; may be repeated
    #[arg(long = "node", value_name = "NAME")]
    nodes: Vec<String>,
    /// Number of the user that the containers run as; given to files where root runs this
    #[arg(long, value_name = "UID", default_value_t = 65_532)]
    uid: u32,
    /// Data folder to give to that user; may be repeated
    #[arg(long = "data", value_name = "FOLDER")]
    data: Vec<PathBuf>,
}

const EXAMPLES: &str = "Examples:
  mesh setup /run/mesh
  mesh setup /run/mesh --node node-1 --node node-2 --data /data/nats
  mesh setup /run/mesh --nats nats-1:4222,nats-2:4222,nats-3:4222

`docker compose up` runs it as its first job; mesh seed is the last one.";

/// Name of user and database; the password is made.
const DATABASE: &str = "mesh";

pub(crate) const NATS_URL: &str = "nats-url";
pub(crate) const DATABASE_URL: &str = "database-url";
const NATS_USERS: &str = "nats/users.conf";
pub(crate) const GRAFANA_PASSWORD: &str = "grafana/grafana_admin";
pub(crate) const READER_PASSWORD: &str = "grafana/grafana_postgres";
pub(crate) const BACKUP_PASSWORD: &str = "seed/postgres-backup";
/// Role of PostgreSQL that reads everything and changes nothing; `mesh seed` makes it.
pub(crate) const BACKUP_ROLE: &str = "mesh_backup";

/// Jobs that run once, beside the services.
const JOBS: [&str; 4] = ["migrate", "seed", BACKUP, "restore"];
const BACKUP: &str = "backup";

pub(crate) async fn run(args: SetupArgs, session: &Session) -> anyhow::Result<()> {
    let folder = args.folder.clone();
    let changed = blocking(move || lay_out(&args)).await?;
    let value = json!({ "folder": folder, "changed": changed });
    let output = session.output;
    output.show(&value, || match changed {
        0 => output.line(&format!("{}: everything is there", folder.display())),
        files => output.line(&format!("{}: {files} files written", folder.display())),
    })
}

/// Writes what is missing or differs; answers how many files that were.
fn lay_out(args: &SetupArgs) -> anyhow::Result<usize> {
    let mut vault = Vault::open(&args.folder.join("vault.json"))?;
    let wanted = wanted(args, &mut vault)?;
    // Before anything that was derived from it: a start that is killed between the two writes the same again.
    let mut changed = usize::from(vault.save()?);
    let user = Belongs::to(args.uid);
    // All may pass through, each to its own folder, which others do not mount.
    own(&args.folder, &Belongs::to_who_runs(), 0o711)?;
    for name in folders(args) {
        let path = args.folder.join(&name);
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let (belongs, mode) = match Open::of(&name) {
            Open::Owner | Open::Person => (user.clone(), 0o700),
            Open::All => (Belongs::to_who_runs(), 0o755),
        };
        own(&path, &belongs, mode)?;
    }
    for (name, text) in &wanted {
        changed += usize::from(put(&args.folder.join(name), text.as_bytes(), &user, Open::of(name))?);
    }
    for folder in &args.data {
        own(folder, &user, 0o700)?;
    }
    Ok(changed)
}

fn folders(args: &SetupArgs) -> Vec<String> {
    let services = Service::ALL.into_iter().map(Service::name).chain(JOBS);
    let others = ["nats", "postgres", "grafana", "cli"];
    let fixed = services.chain(others).map(str::to_owned);
    fixed.chain(args.nodes.iter().cloned()).collect()
}

/// Every file with its content, all of it from the vault.
fn wanted(args: &SetupArgs, vault: &mut Vault) -> anyhow::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    let mut add = |path: String, text: String| files.push((path, text));
    let services = Service::ALL.map(|service| (service.name(), service.needs_database()));
    let all: Vec<_> = services.into_iter().chain(JOBS.map(|job| (job, true))).collect();
    let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
    let users = nats::Users::new(vault, &names)?;
    let (database, reads_all) = (vault.password("postgres"), vault.password("postgres-backup"));
    let database_url =
        |role: &str, password: &str| format!("postgres://{role}:{password}@{}/{DATABASE}\n", args.postgres);
    for (name, needs_database) in all {
        add(format!("{name}/{NATS_URL}"), users.url(name, &args.nats)? + "\n");
        let url = match name {
            BACKUP => database_url(BACKUP_ROLE, &reads_all),
            _ => database_url(DATABASE, &database),
        };
        if needs_database {
            add(format!("{name}/{DATABASE_URL}"), url);
        }
    }
    add(BACKUP_PASSWORD.into(), reads_all);
    let identity = json!({"identity": {"nats_issuer_seed": users.issuer_seed(), "nats_system": users.system()}});
    add("identity/config.json".into(), serde_json::to_string_pretty(&identity)?);
    let conf = users.render();
    let held = std::fs::read_to_string(args.folder.join(NATS_USERS)).ok();
    let held = held.filter(|held| nats::same_users(held, &conf));
    add(NATS_USERS.into(), held.unwrap_or(conf));
    add("nats/routes.conf".into(), nats::routes(vault, &args.nats));
    add("postgres/password".into(), database);
    add(GRAFANA_PASSWORD.into(), vault.password("grafana"));
    add(READER_PASSWORD.into(), vault.password("postgres-reader"));
    Ok(files)
}

/// For tests and messages: the folder's file.
pub(crate) fn file(folder: &Path, name: &str, part: &str) -> PathBuf {
    folder.join(name).join(part)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn args(folder: &Path) -> SetupArgs {
        SetupArgs {
            folder: folder.to_owned(),
            nats: vec!["nats:4222".into()],
            postgres: "postgres:5432".into(),
            nodes: vec!["node-1".into()],
            uid: nix::unistd::getuid().as_raw(),
            data: Vec::new(),
        }
    }

    fn all(folder: &Path) -> BTreeMap<PathBuf, (u32, String)> {
        let mut found = BTreeMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
                let text = std::fs::read_to_string(&path).unwrap();
                found.insert(path, (mode, text));
            }
        }
        found
    }

    #[test]
    fn a_second_start_changes_nothing_and_two_installations_share_nothing() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (one, other) = (one.path(), other.path());
        assert!(lay_out(&args(one)).unwrap() > 20);
        let made = all(one);
        assert_eq!(lay_out(&args(one)).unwrap(), 0);
        assert_eq!(all(one), made);
        lay_out(&args(other)).unwrap();
        let url = |folder: &Path| std::fs::read_to_string(file(folder, "registry", NATS_URL)).unwrap();
        assert_ne!(url(one), url(other));
        assert!(url(one).trim_end().ends_with("@nats:4222"));
        for (path, (mode, _)) in &made {
            let is_for_a_stranger = path.parent().unwrap().ends_with("postgres");
            let expected = if is_for_a_stranger { 0o444 } else { 0o400 };
            let expected = if path.ends_with("vault.json") { 0o600 } else { expected };
            assert_eq!(*mode, expected, "{}", path.display());
        }
    }

    #[test]
    fn a_start_that_was_killed_half_way_is_finished_with_the_same_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        lay_out(&args(folder)).unwrap();
        let made = all(folder);
        std::fs::remove_file(file(folder, "registry", NATS_URL)).unwrap();
        std::fs::remove_file(folder.join("nats/users.conf")).unwrap();
        assert_eq!(lay_out(&args(folder)).unwrap(), 2);
        // Hashes of the same passwords differ by their salt.
        let but_hashes = |mut found: BTreeMap<PathBuf, (u32, String)>| {
            assert!(found.remove(&folder.join("nats/users.conf")).is_some());
            found
        };
        assert_eq!(but_hashes(all(folder)), but_hashes(made));
    }

    #[test]
    fn only_who_needs_the_database_has_its_password() {
        let folder = tempfile::tempdir().unwrap();
        lay_out(&args(folder.path())).unwrap();
        assert!(!file(folder.path(), "gateway", DATABASE_URL).exists());
        assert!(!file(folder.path(), "inference", DATABASE_URL).exists());
        assert!(file(folder.path(), "execution", DATABASE_URL).exists());
        let url = |name: &str| std::fs::read_to_string(file(folder.path(), name, DATABASE_URL)).unwrap();
        assert_eq!(url("restore"), url("migrate"));
        let password = std::fs::read_to_string(folder.path().join(BACKUP_PASSWORD)).unwrap();
        assert_eq!(
            url("backup"),
            format!("postgres://mesh_backup:{password}@postgres:5432/mesh\n")
        );
        assert!(folder.path().join("node-1").is_dir());
    }
}
