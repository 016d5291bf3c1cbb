//! Postgres: as root and as a user, after every kind of bad end.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use mesh_servers::{Postgres, PostgresOptions, ScratchDir, ServersError, remove_data};

use crate::{busy_port, is_alive, tools, wait_until};

fn fast(dir: &Path) -> PostgresOptions {
    PostgresOptions {
        fast_for_tests: true,
        ..PostgresOptions::new(dir)
    }
}

/// Runs SQL with psql: the answer, or the error's text.
fn query_at(url: &str, sql: &str) -> Result<String, String> {
    let mut command = Command::new(tools().postgres.bin.join("psql"));
    command.args(["-X", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-c", sql, url]);
    let output = command.env_remove("PGPASSWORD").output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

fn query(postgres: &Postgres, sql: &str) -> String {
    query_at(&postgres.url(), sql).unwrap()
}

#[test]
fn a_first_start_is_durable_and_has_pgvector() {
    let scratch = ScratchDir::new().unwrap();
    let dir = scratch.path().join("postgres");
    let postgres = Postgres::start(tools(), PostgresOptions::new(&dir)).unwrap();
    for (setting, value) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("server_encoding", "UTF8"),
        ("jit", "off"),
    ] {
        assert_eq!(query(&postgres, &format!("SHOW {setting}")), value, "{setting}");
    }
    query(&postgres, "CREATE EXTENSION vector");
    assert_eq!(
        query(&postgres, "SELECT '[1,2]'::halfvec(2) <-> '[1,2]'::halfvec(2)"),
        "0"
    );
    assert_eq!(query(&postgres, "SELECT current_user, current_database()"), "mesh|mesh");
}

#[test]
fn nobody_enters_without_the_password() {
    let scratch = ScratchDir::new().unwrap();
    let dir = scratch.path().join("postgres");
    let postgres = Postgres::start(tools(), fast(&dir)).unwrap();
    let url = format!("postgres://mesh@127.0.0.1:{}/mesh", postgres.port());
    assert!(query_at(&url, "SELECT 1").is_err());
    let mode = fs::metadata(dir.join("password")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn data_outlives_stop_kill_and_restart() {
    let scratch = ScratchDir::new().unwrap();
    let options = PostgresOptions::new(scratch.path().join("postgres"));
    let mut postgres = Postgres::start(tools(), options.clone()).unwrap();
    let url = postgres.url();
    query(&postgres, "CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)");
    postgres.kill().unwrap();
    assert!(!postgres.is_running());
    postgres.restart().unwrap();
    assert_eq!(postgres.url(), url);
    query(&postgres, "INSERT INTO kept VALUES (2)");
    postgres.stop().unwrap();
    drop(postgres);
    let postgres = Postgres::start(tools(), options).unwrap();
    assert_eq!(query(&postgres, "SELECT sum(id) FROM kept"), "3");
}

#[test]
fn a_server_that_a_killed_mesh_left_is_stopped_by_the_next_start() {
    let scratch = ScratchDir::new().unwrap();
    let options = fast(&scratch.path().join("postgres"));
    let left = Postgres::start(tools(), options.clone()).unwrap();
    let (pid, port) = (left.pid(), left.port());
    query(&left, "CREATE TABLE kept (id int)");
    // A killed process stops nothing.
    std::mem::forget(left);
    let mut next = Postgres::start(tools(), PostgresOptions { port, ..options }).unwrap();
    assert!(!is_alive(pid) && next.is_running());
    assert_eq!(query(&next, "SELECT count(*) FROM kept"), "0");
}

#[test]
fn a_pid_file_that_names_a_strangers_process_does_not_stop_a_start() {
    let scratch = ScratchDir::new().unwrap();
    let options = fast(&scratch.path().join("postgres"));
    let mut postgres = Postgres::start(tools(), options.clone()).unwrap();
    let pid_file = options.dir.join("data/postmaster.pid");
    let text = fs::read_to_string(&pid_file).unwrap();
    postgres.stop().unwrap();
    assert!(!pid_file.exists());
    let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
    let stale: Vec<String> = text
        .lines()
        .enumerate()
        .map(|(line, text)| {
            if line == 0 {
                stranger.id().to_string()
            } else {
                text.to_owned()
            }
        })
        .collect();
    fs::write(&pid_file, stale.join("\n")).unwrap();
    let result = Postgres::start(tools(), options);
    let was_left_alone = is_alive(stranger.id());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert!(was_left_alone);
    assert_eq!(query(&result.unwrap(), "SELECT 1"), "1");
}

#[test]
fn a_first_start_that_was_killed_is_repeated_from_the_beginning() {
    let scratch = ScratchDir::new().unwrap();
    let dir = scratch.path().join("postgres");
    fs::create_dir_all(dir.join("data.new/base")).unwrap();
    fs::write(dir.join("data.new/PG_VERSION"), "18\n").unwrap();
    fs::write(dir.join("password"), "of the killed start").unwrap();
    let postgres = Postgres::start(tools(), fast(&dir)).unwrap();
    assert_eq!(query(&postgres, "SELECT 1"), "1");
    assert!(!dir.join("data.new").exists());
}

#[test]
fn a_home_that_others_cannot_enter_has_its_data_elsewhere_for_root() {
    let closed = tempfile::tempdir().unwrap();
    fs::set_permissions(closed.path(), Permissions::from_mode(0o700)).unwrap();
    let dir = closed.path().join("home/postgres");
    let mut postgres = Postgres::start(tools(), fast(&dir)).unwrap();
    query(&postgres, "CREATE TABLE kept (id int)");
    let real = fs::canonicalize(&dir).unwrap();
    if fs::symlink_metadata("/proc/self").is_ok() && nix::unistd::Uid::effective().is_root() {
        assert!(!real.starts_with(closed.path()), "{}", real.display());
    } else {
        assert!(real.ends_with("home/postgres"));
    }
    // A kill and a new start find the same data through the link.
    postgres.kill().unwrap();
    drop(postgres);
    let postgres = Postgres::start(tools(), fast(&dir)).unwrap();
    assert_eq!(query(&postgres, "SELECT count(*) FROM kept"), "0");
    drop(postgres);
    remove_data(&dir).unwrap();
    assert!(!real.exists() && fs::symlink_metadata(&dir).is_err());
}

#[test]
fn a_removed_home_begins_with_empty_data() {
    let closed = tempfile::tempdir().unwrap();
    fs::set_permissions(closed.path(), Permissions::from_mode(0o700)).unwrap();
    let home = closed.path().join("home");
    let dir = home.join("postgres");
    let left = Postgres::start(tools(), fast(&dir)).unwrap();
    let pid = left.pid();
    query(&left, "CREATE TABLE gone (id int)");
    std::mem::forget(left);
    let old = fs::canonicalize(&dir).unwrap();
    fs::remove_dir_all(&home).unwrap();
    let postgres = Postgres::start(tools(), fast(&dir)).unwrap();
    assert!(query_at(&postgres.url(), "SELECT * FROM gone").is_err());
    wait_until("the removed home's server has ended", || !is_alive(pid));
    drop(postgres);
    remove_data(&dir).unwrap();
    // What was set aside beside it, for root only.
    if let (Some(parent), Some(name)) = (old.parent(), old.file_name())
        && !old.starts_with(closed.path())
    {
        let aside = parent.join(format!("{}.1", name.to_string_lossy()));
        assert!(aside.join("data/PG_VERSION").exists());
        fs::remove_dir_all(aside).unwrap();
    }
}

#[test]
fn data_that_cannot_be_reached_any_more_is_named() {
    let closed = tempfile::tempdir().unwrap();
    fs::set_permissions(closed.path(), Permissions::from_mode(0o711)).unwrap();
    let dir = closed.path().join("postgres");
    drop(Postgres::start(tools(), fast(&dir)).unwrap());
    fs::set_permissions(closed.path(), Permissions::from_mode(0o700)).unwrap();
    let again = Postgres::start(tools(), fast(&dir));
    if nix::unistd::Uid::effective().is_root() {
        let error = again.unwrap_err();
        assert!(matches!(error, ServersError::Unreachable { .. }), "{error}");
    } else {
        assert_eq!(query(&again.unwrap(), "SELECT 1"), "1");
    }
}

#[test]
fn a_busy_port_is_named_with_the_variable_that_changes_it() {
    let scratch = ScratchDir::new().unwrap();
    let (_listener, port) = busy_port();
    let options = PostgresOptions {
        port,
        ..fast(&scratch.path().join("postgres"))
    };
    let error = Postgres::start(tools(), options).unwrap_err();
    assert!(error.to_string().contains("MESH_POSTGRES_PORT"), "{error}");
}

#[test]
fn a_refused_setting_is_shown_with_the_log() {
    let scratch = ScratchDir::new().unwrap();
    let mut options = fast(&scratch.path().join("postgres"));
    options.settings = vec![("shared_buffers".into(), "many".into())];
    let error = Postgres::start(tools(), options).unwrap_err().to_string();
    assert!(
        error.contains("shared_buffers") && error.contains("postgres.log"),
        "{error}"
    );
}

#[test]
fn many_servers_start_at_once_on_ports_of_their_own() {
    let scratch = ScratchDir::new().unwrap();
    std::thread::scope(|scope| {
        let start = |name: &str| Postgres::start(tools(), fast(&scratch.path().join(name)));
        let all = ["a", "b", "c", "d"].map(|name| scope.spawn(move || start(name)));
        let all = all.map(|one| one.join().unwrap().unwrap());
        let answers = all.each_ref().map(|postgres| query(postgres, "SELECT 1"));
        assert_eq!(answers, ["1"; 4]);
    });
}
