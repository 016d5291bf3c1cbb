//! A process and all of its descendants, as one process group. It never outlives its owner: asked to end, then killed,
//! then reaped, also when the owner is dropped in the middle (a cancelled call). What leaves the group by itself
//! (`setsid`) is out of reach.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::Child;
use tokio::sync::oneshot;

use super::folder::Folder;

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// What a kill takes at most, in a healthy kernel.
const KILL_TAKES: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(10);

pub(super) struct Group {
    /// Id of the group: that of its leader, the child. It stays taken as long as the group has a member.
    id: Pid,
    running: Option<Running>,
}

struct Running {
    child: Child,
    /// Removed only after the last process that may write to it.
    _folder: Folder,
}

impl Group {
    /// `child` was started as the leader of a process group of its own. `None` when it was waited for already.
    pub(super) fn new(child: Child, folder: Folder) -> Option<Self> {
        let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))?;
        Some(Self {
            id,
            running: Some(Running { child, _folder: folder }),
        })
    }

    pub(super) const fn id(&self) -> Pid {
        self.id
    }

    pub(super) fn child(&mut self) -> &mut Child {
        let running = self.running.as_mut();
        &mut running.expect("only `stop` takes it, which ends the group").child
    }

    /// Waits for the leader; others of the group may go on.
    pub(super) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child().wait().await
    }

    /// Ends whoever is left and removes the folder. Takes up to 3 s when somebody ignores SIGTERM.
    pub(super) async fn stop(mut self) {
        if let Some(running) = self.running.take() {
            let (done, ended) = oneshot::channel();
            end(running, self.id, Some(done));
            // Fails only when the thread could not be started; then it was done at once.
            let _ = ended.await;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            end(running, self.id, None);
        }
    }
}

/// SIGTERM now; the rest in a thread of its own, as a drop cannot wait and the runtime may be going down.
fn end(mut running: Running, id: Pid, done: Option<oneshot::Sender<()>>) {
    if running.is_there(id) {
        signal(id, Signal::TERM);
    }
    let thread = std::thread::Builder::new().name("mesh-reaper".to_owned());
    let reaper = move || {
        running.reap(id);
        drop(running);
        if let Some(done) = done {
            let _ = done.send(());
        }
    };
    if let Err(error) = thread.spawn(reaper) {
        tracing::warn!(%error, "no thread to end a process with; it is killed at once");
        signal(id, Signal::KILL);
    }
}

impl Running {
    fn reap(&mut self, id: Pid) {
        if !self.is_gone_within(GRACE, id) {
            signal(id, Signal::KILL);
            if !self.is_gone_within(KILL_TAKES, id) {
                tracing::warn!(group = id.as_raw_nonzero(), "a killed process does not end");
            }
        }
    }

    fn is_gone_within(&mut self, time: Duration, id: Pid) -> bool {
        let since = Instant::now();
        while self.is_there(id) {
            if since.elapsed() > time {
                return false;
            }
            std::thread::sleep(POLL);
        }
        true
    }

    /// Reaps the leader by looking: an exited one would count as a member until then.
    fn is_there(&mut self, id: Pid) -> bool {
        !matches!(self.child.try_wait(), Ok(Some(_))) || test_kill_process_group(id).is_ok()
    }
}

fn signal(id: Pid, signal: Signal) {
    if let Err(error) = kill_process_group(id, signal) {
        tracing::debug!(%error, group = id.as_raw_nonzero(), ?signal, "nobody to signal");
    }
}
