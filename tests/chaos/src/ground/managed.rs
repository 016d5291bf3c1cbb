//! One `mesh serve` process that is killed and frozen again and again: who did what, and when it is started again.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mesh_types::{Clock, SystemClock, Timestamp};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What it is started with at its next start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Armed {
    pub(crate) spec: String,
    /// How long it stays stopped where the spec stops it.
    pub(crate) stop: Duration,
}

/// What became of it since the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Died { by_us: bool, how: String },
    Thawed { from: Timestamp, to: Timestamp },
    Started,
}

pub(crate) struct Managed {
    /// `edge`, `execution-a` …
    pub(crate) name: String,
    command: Box<dyn Fn() -> Command + Send + Sync>,
    log: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    child: Option<Child>,
    killed_by_us: bool,
    start_at: Option<Instant>,
    armed: Armed,
    /// The spec that the running one was started with.
    running: Armed,
    frozen: Option<Frozen>,
}

#[derive(Debug)]
struct Frozen {
    since: Timestamp,
    until: Instant,
}

impl Managed {
    pub(super) fn new(name: &str, log: PathBuf, command: impl Fn() -> Command + Send + Sync + 'static) -> Self {
        let state = State {
            start_at: Some(Instant::now()),
            ..State::default()
        };
        Self {
            name: name.to_owned(),
            command: Box::new(command),
            log,
            state: Mutex::new(state),
        }
    }

    /// SIGKILL; it is started again after `down`, with failpoints if some are given.
    pub(crate) fn kill(&self, down: Duration, armed: Option<Armed>) {
        let mut state = self.state();
        state.start_at = Some(Instant::now() + down);
        state.armed = armed.unwrap_or_default();
        if let Some(child) = &state.child {
            signal(child.id(), Signal::SIGKILL);
            state.killed_by_us = true;
        }
    }

    /// SIGSTOP now, SIGCONT when the time is over.
    pub(crate) fn freeze(&self, time: Duration, clock: &SystemClock) {
        let mut state = self.state();
        if let (Some(child), None) = (&state.child, &state.frozen) {
            signal(child.id(), Signal::SIGSTOP);
            state.frozen = Some(Frozen {
                since: clock.now(),
                until: Instant::now() + time,
            });
        }
    }

    #[cfg(test)]
    pub(crate) fn is_running(&self) -> bool {
        let state = self.state();
        state.child.is_some() && state.frozen.is_none()
    }

    /// Looks at it and does what is due: starts it again, thaws it.
    pub(super) fn tend(&self, clock: &SystemClock, down: Duration) -> std::io::Result<Vec<Change>> {
        let mut state = self.state();
        let mut changes = Vec::new();
        if let Some(status) = state.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
            state.child = None;
            changes.extend(state.thawed(clock));
            changes.push(Change::Died {
                by_us: std::mem::take(&mut state.killed_by_us),
                how: status.to_string(),
            });
            state.start_at.get_or_insert(Instant::now() + down);
        }
        let pid = state.child.as_ref().map(Child::id);
        if let Some(pid) = pid {
            // A failpoint stopped it: `Frozen` begins when it is seen, at most one look later.
            if state.frozen.is_none() && is_stopped(pid) {
                state.frozen = Some(Frozen {
                    since: clock.now(),
                    until: Instant::now() + state.running.stop,
                });
            }
            if state
                .frozen
                .as_ref()
                .is_some_and(|frozen| frozen.until <= Instant::now())
            {
                signal(pid, Signal::SIGCONT);
                changes.extend(state.thawed(clock));
            }
        }
        if state.child.is_none() && state.start_at.is_some_and(|at| at <= Instant::now()) {
            self.start(&mut state)?;
            changes.push(Change::Started);
        }
        Ok(changes)
    }

    fn start(&self, state: &mut State) -> std::io::Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = (self.command)();
        // Armed once: a process that comes back by itself is not killed at the same place for ever.
        state.running = std::mem::take(&mut state.armed);
        if !state.running.spec.is_empty() {
            command.env("MESH_FAILPOINTS", &state.running.spec);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        state.child = Some(child);
        state.start_at = None;
        Ok(())
    }

    /// The end of its log.
    pub(crate) fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn thawed(&mut self, clock: &SystemClock) -> Option<Change> {
        let frozen = self.frozen.take()?;
        Some(Change::Thawed {
            from: frozen.since,
            to: clock.now(),
        })
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        let mut state = self.state();
        if let Some(child) = &mut state.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A process that is gone is no error.
pub(super) fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// State T of /proc.
fn is_stopped(pid: u32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit_once(')')
        .is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
}

/// The process and all below it.
pub(super) fn family(root: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = text
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let mut family = vec![root];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &std::path::Path) -> Managed {
        Managed::new("sleeper", folder.join("log"), || {
            let mut command = Command::new("sleep");
            command.arg("60");
            command
        })
    }

    fn until(managed: &Managed, wanted: impl Fn(&Change) -> bool) -> Change {
        let clock = SystemClock::default();
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            let changes = managed.tend(&clock, Duration::ZERO).unwrap();
            if let Some(change) = changes.into_iter().find(|change| wanted(change)) {
                return change;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("it did not come");
    }

    #[test]
    fn a_killed_process_is_started_again_and_a_frozen_one_thawed() {
        let folder = tempfile::tempdir().unwrap();
        let managed = sleeper(folder.path());
        until(&managed, |change| *change == Change::Started);
        managed.freeze(Duration::from_millis(30), &SystemClock::default());
        assert!(!managed.is_running());
        let thawed = until(&managed, |change| matches!(change, Change::Thawed { .. }));
        assert!(matches!(thawed, Change::Thawed { from, to } if to.since(from) >= Duration::from_millis(30)));
        assert!(managed.is_running());
        managed.kill(Duration::ZERO, None);
        let died = until(&managed, |change| matches!(change, Change::Died { .. }));
        assert!(matches!(died, Change::Died { by_us: true, .. }), "{died:?}");
        assert!(managed.is_running(), "started in the same look");
    }

    #[test]
    fn one_that_dies_by_itself_is_told_apart_and_one_that_stops_itself_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let managed = Managed::new("suicidal", folder.path().join("log"), || {
            let mut command = Command::new("sh");
            command.args(["-c", "kill -STOP $$; exit 3"]);
            command
        });
        until(&managed, |change| *change == Change::Started);
        until(&managed, |change| matches!(change, Change::Thawed { .. }));
        let died = until(&managed, |change| matches!(change, Change::Died { .. }));
        assert!(
            matches!(&died, Change::Died { by_us: false, how } if how.contains('3')),
            "{died:?}"
        );
    }
}
