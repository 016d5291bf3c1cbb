//! A server's process: a group of its own, which ends as a whole, and what it last said on its standard error.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio_util::task::TaskTracker;

/// The whole environment of a server: the mesh's own holds secrets.
const ENVIRONMENT: [&str; 3] = ["PATH", "HOME", "LANG"];
/// Given to a server after its standard input has ended.
const END_GRACE: Duration = Duration::from_secs(2);
const STDERR_KEPT_BYTES: usize = 2_048;

/// Dropped, it kills the group at once.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    group: Option<Pid>,
    stderr: Arc<Mutex<Vec<u8>>>,
}

impl Process {
    /// The process with its standard output and input.
    pub(crate) fn start(command: &[String], tasks: &TaskTracker) -> std::io::Result<(Self, ChildStdout, ChildStdin)> {
        let (program, arguments) = command
            .split_first()
            .ok_or_else(|| std::io::Error::other("the command is empty"))?;
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(
                ENVIRONMENT
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let stderr = Arc::new(Mutex::new(Vec::new()));
        if let Some(pipe) = child.stderr.take() {
            tasks.spawn(keep_tail(pipe, Arc::clone(&stderr)));
        }
        let (output, input) = (child.stdout.take(), child.stdin.take());
        let process = Self { child, group, stderr };
        match (output, input) {
            (Some(output), Some(input)) => Ok((process, output, input)),
            _ => Err(std::io::Error::other("the process has no pipes")),
        }
    }

    /// The end of what it said on its standard error.
    pub(crate) fn stderr(&self) -> String {
        let tail = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&tail).trim().to_owned()
    }

    /// After its standard input was closed: waits for it, then kills what is left of the group.
    pub(crate) async fn end(mut self) {
        let _ = tokio::time::timeout(END_GRACE, self.child.wait()).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            // No such group: all of it has ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn keep_tail(mut pipe: ChildStderr, tail: Arc<Mutex<Vec<u8>>>) {
    let mut piece = [0; 1_024];
    while let Ok(count @ 1..) = pipe.read(&mut piece).await {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(&piece[..count]);
        let excess = tail.len().saturating_sub(STDERR_KEPT_BYTES);
        tail.drain(..excess);
    }
}
