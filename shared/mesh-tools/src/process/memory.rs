//! How much memory a process group may take. Two lines: a limit of the kernel on each process, and a look at the sum.

use std::time::Duration;

use mesh_types::{Code, Problem};
use rustix::process::Pid;

const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) bytes: u64,
    /// As it was declared.
    text: String,
}

/// Powers of 1024, as Docker and systemd read them.
const UNITS: [(&str, u32); 5] = [("", 0), ("k", 1), ("m", 2), ("g", 3), ("t", 4)];

impl Memory {
    /// `256MB`, `1GB`, `512MiB`, `64m`, `1048576`; case does not matter.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let lower = text.trim().to_ascii_lowercase();
        let digits = lower.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = lower.split_at(digits);
        let unit = unit.trim_start();
        let unit = unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(unit);
        let bytes = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .and_then(|(_, power)| number.parse::<u64>().ok()?.checked_mul(1024_u64.checked_pow(*power)?))
            .filter(|bytes| *bytes > 0);
        let text = text.trim().to_owned();
        bytes
            .map(|bytes| Self {
                bytes,
                text: text.clone(),
            })
            .ok_or_else(|| {
                Problem::new(Code::AgentInvalid, format!("`{text}` is no amount of memory"))
                    .field("memory")
                    .next("write a number and KB, MB or GB, such as 256MB")
            })
    }

    /// The kernel's limit. It is on private writable memory, not on address space: the runtimes of JavaScript, Go and
    /// Java reserve far more addresses than they use. Descendants inherit it.
    #[cfg(target_os = "linux")]
    pub(super) fn limit(&self, process: Pid) {
        use rustix::process::{Resource, Rlimit, prlimit};
        let limit = Rlimit {
            current: Some(self.bytes),
            maximum: Some(self.bytes),
        };
        if let Err(error) = prlimit(Some(process), Resource::Data, limit) {
            tracing::debug!(%error, "no memory limit is set: the process has ended, or may not be limited");
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn limit(&self, _process: Pid) {
        tracing::warn!(
            memory = self.text,
            "memory is limited on Linux only; time and output are limited here too"
        );
    }

    /// Answers when the group takes more than that.
    pub(super) async fn exceeded(&self, group: Pid) -> Problem {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            // Reads `/proc`: some milliseconds on a machine with many processes.
            let used = tokio::task::spawn_blocking(move || used_by(group)).await;
            if used.is_ok_and(|used| used > self.bytes) {
                return Problem::new(
                    Code::ToolFailed,
                    format!("it took more than its memory limit, {}", self.text),
                )
                .next("raise `memory`, or let it work on less at once");
            }
        }
    }

    /// To be said of a failure that the kernel's limit may have caused.
    pub(super) fn hint(&self) -> String {
        format!(
            "read its standard error; if it ran out of memory, raise `memory` (now {})",
            self.text
        )
    }
}

/// Bytes of memory that the processes of a group have for themselves. 0 where there is no `/proc`.
fn used_by(group: Pid) -> u64 {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return 0;
    };
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    entries
        .filter_map(|entry| {
            entry
                .ok()?
                .file_name()
                .into_string()
                .ok()
                .filter(|name| is_process(name))
        })
        .filter(|process| group_of(process) == Some(group.as_raw_nonzero().get()))
        .filter_map(|process| std::fs::read_to_string(format!("/proc/{process}/status")).ok())
        .map(|status| resident(&status))
        .sum()
}

/// The fifth field of `stat`; the second, a name in brackets, may hold anything.
fn group_of(process: &str) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(2)?.parse().ok()
}

/// Anonymous and shared memory; pages of files are the system's to take back.
fn resident(status: &str) -> u64 {
    let kilobytes = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
    let lines = status
        .lines()
        .filter(|line| line.starts_with("RssAnon:") || line.starts_with("RssShmem:"));
    lines.filter_map(kilobytes).sum::<u64>() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_people_write_it() {
        let bytes = |text: &str| Memory::parse(text).map(|memory| memory.bytes).ok();
        assert_eq!(bytes("256MB"), Some(256 << 20));
        assert_eq!(bytes("1GB"), Some(1 << 30));
        assert_eq!(bytes("512MiB"), Some(512 << 20));
        assert_eq!(bytes(" 64 m "), Some(64 << 20));
        assert_eq!(bytes("10kb"), Some(10 << 10));
        assert_eq!(bytes("4096"), Some(4096));
        assert_eq!(bytes("4096B"), Some(4096));
        for wrong in [
            "",
            "MB",
            "0MB",
            "-1MB",
            "1.5GB",
            "1XB",
            "1 MB MB",
            "99999999999999999999",
            "99999999999TB",
        ] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn resident_memory_leaves_files_out() {
        let status = "Name:\tx\nVmRSS:\t  900 kB\nRssAnon:\t     100 kB\nRssFile:\t  780 kB\nRssShmem:\t  20 kB\n";
        assert_eq!(resident(status), 120 * 1024);
    }
}
