//! Processes: the ones we started, and the ones a killed predecessor of ours left behind. Every
//! signal goes to an id whose command line was checked, never to a name.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ServersError;
use crate::files;

const POLL: Duration = Duration::from_millis(5);

/// Signals to send one after the other, each with the time it gets.
pub(crate) type StopPlan = &'static [(Signal, Duration)];

/// No mercy: for tests and for what does not end otherwise.
pub(crate) const KILL: StopPlan = &[(Signal::SIGKILL, Duration::from_secs(5))];

const POLITE: StopPlan = &[
    (Signal::SIGINT, Duration::from_secs(10)),
    (Signal::SIGKILL, Duration::from_secs(5)),
];

/// Calls `probe` until it answers or the deadline passes.
pub(crate) fn wait_for<T>(deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = probe() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(POLL);
    }
}

/// A running process, as the system lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub pid: u32,
    /// Its command line; where the system does not keep the arguments apart, split at blanks.
    pub arguments: Vec<String>,
}

impl Found {
    /// Ends it, first politely (SIGINT, to which Postgres answers with a fast shutdown).
    ///
    /// # Errors
    /// [`ServersError::WillNotStop`].
    pub fn stop(&self) -> Result<(), ServersError> {
        stop_found(self, POLITE)
    }

    /// Whether it runs `program` and has `arguments` in a row on its command line.
    pub(crate) fn runs(&self, program: &str, arguments: &[&str]) -> bool {
        let name = self.arguments.first().map(|first| Path::new(first).file_name());
        name.flatten().is_some_and(|name| name == program)
            && self
                .arguments
                .windows(arguments.len())
                .any(|window| window == arguments)
    }
}

/// Every process of the machine that this user may see; zombies are not processes.
pub(crate) fn all() -> Vec<Found> {
    if !Path::new("/proc/self").exists() {
        return listed_by_ps();
    }
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(find)
        .collect()
}

/// The process with that id, unless it has ended.
pub(crate) fn find(pid: u32) -> Option<Found> {
    if !Path::new("/proc/self").exists() {
        return listed_by_ps().into_iter().find(|found| found.pid == pid);
    }
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&line);
    let arguments: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
    // A zombie has no command line.
    (!arguments.is_empty()).then_some(Found { pid, arguments })
}

/// For systems without /proc (macOS).
fn listed_by_ps() -> Vec<Found> {
    let output = Command::new("ps").args(["axww", "-o", "pid=,stat=,command="]).output();
    let Ok(output) = output else {
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let pid = words.next()?.parse().ok()?;
            let is_zombie = words.next()?.starts_with('Z');
            let arguments = words.map(str::to_owned).collect();
            (!is_zombie).then_some(Found { pid, arguments })
        })
        .collect()
}

/// Processes that carry `NAME=value` in their environment: children of a run, however deep.
/// `None` where the system does not tell (no /proc).
#[must_use]
pub fn processes_with_environment(entry: &str) -> Option<Vec<Found>> {
    if !Path::new("/proc/self/environ").exists() {
        return None;
    }
    let carries = |found: &Found| {
        fs::read(format!("/proc/{}/environ", found.pid))
            .is_ok_and(|bytes| bytes.split(|byte| *byte == 0).any(|one| one == entry.as_bytes()))
    };
    Some(all().into_iter().filter(carries).collect())
}

/// Stops processes found on the system by the plan, checking before each signal that the id
/// still is what it was.
pub(crate) fn stop_found(found: &Found, plan: StopPlan) -> Result<(), ServersError> {
    let is_gone = || (find(found.pid).as_ref() != Some(found)).then_some(());
    for (signal, patience) in plan {
        if is_gone().is_some() {
            return Ok(());
        }
        // It may end in between; whether it did is what counts.
        let _ = kill(as_pid(found.pid), *signal);
        if wait_for(*patience, is_gone).is_some() {
            return Ok(());
        }
    }
    Err(ServersError::WillNotStop {
        pid: found.pid,
        what: found.arguments.join(" "),
    })
}

/// Sends one signal; a process that is gone is no error.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let _ = kill(as_pid(pid), signal);
}

fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("process ids are positive 32-bit numbers"))
}

/// A server we started, in a process group of its own: Ctrl-C reaches the mesh, which then stops
/// its servers last.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    child: Child,
    log: PathBuf,
    log_from: u64,
}

impl Server {
    /// Starts the command with its output appended to `log`.
    pub(crate) fn spawn(name: &'static str, mut command: Command, log: &Path) -> Result<Self, ServersError> {
        let out = files::open_log(log)?;
        let log_from = out.metadata().map_or(0, |meta| meta.len());
        let both = out.try_clone().map_err(ServersError::io("open the log", log))?;
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(both)
            .spawn()
            .map_err(|source| ServersError::Run {
                program: name.to_owned(),
                source,
            })?;
        Ok(Self {
            name,
            child,
            log: log.to_owned(),
            log_from,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn exit(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(Some(status)) => Some(status.to_string()),
            Ok(None) => None,
            Err(error) => Some(error.to_string()),
        }
    }

    /// What it has logged since it was started.
    pub(crate) fn log_tail(&self) -> String {
        files::tail(&self.log, self.log_from)
    }

    /// The error of a start that failed.
    pub(crate) fn start_error(&self, detail: String) -> ServersError {
        ServersError::Start {
            server: self.name,
            detail,
            log: self.log.clone(),
            tail: self.log_tail(),
        }
    }

    /// Waits for `probe`; an error when the server ends first or stays silent.
    pub(crate) fn wait_ready<T>(
        &mut self,
        deadline: Duration,
        mut probe: impl FnMut() -> Option<T>,
    ) -> Result<T, ServersError> {
        let answer = wait_for(deadline, || match probe() {
            Some(answer) => Some(Ok(answer)),
            None => self.exit().map(Err),
        });
        match answer {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(exit)) => Err(self.start_error(format!("it ended with {exit}"))),
            None => Err(self.start_error(format!("it was not ready within {deadline:?}"))),
        }
    }

    /// Stops it by the plan; one that has ended already is fine.
    pub(crate) fn stop(&mut self, plan: StopPlan) -> Result<(), ServersError> {
        for (one, patience) in plan {
            if self.exit().is_some() {
                return Ok(());
            }
            signal(self.pid(), *one);
            if wait_for(*patience, || self.exit()).is_some() {
                return Ok(());
            }
        }
        Err(ServersError::WillNotStop {
            pid: self.pid(),
            what: self.name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_with_its_command_line() {
        let mine = find(std::process::id()).unwrap();
        assert_eq!(mine.arguments.first().cloned(), std::env::args().next());
        assert!(all().contains(&mine));
    }

    #[test]
    fn a_process_is_recognised_by_program_and_arguments() {
        let arguments = ["/opt/bin/nats-server", "-c", "/home/a/nats.conf"];
        let found = Found {
            pid: 1,
            arguments: arguments.map(str::to_owned).to_vec(),
        };
        assert!(found.runs("nats-server", &["-c", "/home/a/nats.conf"]));
        assert!(!found.runs("nats-server", &["-c", "/home/b/nats.conf"]));
        assert!(!found.runs("vim", &["-c", "/home/a/nats.conf"]));
    }

    #[test]
    fn an_ended_child_is_no_process_even_before_it_is_reaped() {
        let mut child = Command::new("true").spawn().unwrap();
        assert!(wait_for(Duration::from_secs(5), || find(child.id()).is_none().then_some(())).is_some());
        child.wait().unwrap();
    }

    #[test]
    fn children_are_found_by_their_environment() {
        let entry = format!("AGENT_MESH_UNIT={}", std::process::id());
        let (name, value) = entry.split_once('=').unwrap();
        let mut child = Command::new("sleep").arg("60").env(name, value).spawn().unwrap();
        let pids: Option<Vec<u32>> = wait_for(Duration::from_secs(5), || {
            let found = processes_with_environment(&entry)?;
            (!found.is_empty()).then(|| found.iter().map(|one| one.pid).collect())
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(pids, Some(vec![child.id()]));
    }
}
