//! One process group for all that is started: it dies with this program, however this program ends.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Waits for the end of our pipe, then kills the servers whose pid files lie in the folder (if they still are what the
/// files say) and the group with itself. Stopped processes die of SIGKILL as well.
const REAPER: &str = r#"cat >/dev/null
for file in "$1"/postgres/data/postmaster.pid "$1"/nats/nats.pid; do
  pid=$(head -n 1 "$file" 2>/dev/null) || continue
  tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$1" && kill -9 "$pid"
done
kill -9 0"#;

pub(super) struct Group {
    reaper: Child,
    _pipe: Option<ChildStdin>,
}

impl Group {
    pub(super) fn start(folder: &Path) -> std::io::Result<Self> {
        let mut reaper = Command::new("sh")
            .args(["-c", REAPER, "chaos-reaper"])
            .arg(folder)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pipe = reaper.stdin.take();
        Ok(Self { reaper, _pipe: pipe })
    }

    /// What is started by this command is a member of that leader's group.
    pub(super) fn join(leader: Pid, command: &mut Command) {
        command.process_group(leader.as_raw());
    }

    pub(super) fn leader(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.reaper.id()).expect("process ids are positive 32-bit numbers"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The reaper leads it, so that the number is nobody else's.
        let _ = killpg(self.leader(), Signal::SIGKILL);
        let _ = self.reaper.wait();
    }
}
