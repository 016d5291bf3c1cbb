//! The lock of a home between real processes: this program is started again to hold one.

use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, path::Path, path::PathBuf, thread};

use mesh_servers::{HomeLock, ServersError, running, stop_running};

use crate::wait_until;

const HOME_VARIABLE: &str = "AGENT_MESH_HELD_HOME";

#[test]
#[ignore = "run by the other tests of this file, in a process of its own"]
fn hold_a_home_until_killed() {
    let home = PathBuf::from(env::var_os(HOME_VARIABLE).unwrap());
    let _lock = HomeLock::acquire(&home).unwrap();
    loop {
        thread::park();
    }
}

fn holder(home: &Path) -> Child {
    let child = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "home::hold_a_home_until_killed"])
        .env(HOME_VARIABLE, home)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the other process has the home", || {
        running(home).unwrap() == Some(child.id())
    });
    child
}

#[test]
fn a_second_process_is_told_of_the_first_and_a_kill_gives_the_home_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = holder(folder.path());
    let error = HomeLock::acquire(folder.path()).unwrap_err();
    let pid_told = match &error {
        ServersError::AlreadyRunning { pid, .. } => *pid,
        _ => None,
    };
    assert_eq!(pid_told, Some(first.id()), "{error}");
    first.kill().unwrap();
    first.wait().unwrap();
    HomeLock::acquire(folder.path()).unwrap();
}

#[test]
fn a_running_mesh_is_stopped_by_its_home() {
    let folder = tempfile::tempdir().unwrap();
    let deadline = Duration::from_secs(10);
    assert_eq!(stop_running(folder.path(), deadline).unwrap(), None);
    let mut mesh = holder(folder.path());
    assert_eq!(stop_running(folder.path(), deadline).unwrap(), Some(mesh.id()));
    assert_eq!(running(folder.path()).unwrap(), None);
    assert!(!mesh.wait().unwrap().success());
}
