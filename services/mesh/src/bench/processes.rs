//! CPU time and memory of the processes that take part, from /proc. Where there is none, nothing is said.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::place::Place;
use super::store;

/// Linux counts CPU time for /proc in hundredths of a second, on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
const KIB_PER_MB: f64 = 1024.0;

/// Seconds of CPU, or megabytes, by process: `mesh`, `nats`, `postgres`, `bench`.
pub(super) type ByProcess = BTreeMap<&'static str, f64>;

/// The processes of one machine that take part; those elsewhere are left out.
#[derive(Debug, Clone, Default)]
pub(super) struct Processes(Vec<(&'static str, u32)>);

impl Processes {
    /// Those that the measurement started itself.
    pub(super) fn of(processes: Vec<(&'static str, u32)>) -> Self {
        Self(processes)
    }

    pub(super) async fn find(place: &Place) -> Self {
        let mut found = Vec::new();
        if let Some(mesh) = place.mesh_pid {
            found.push(("mesh", mesh));
            found.extend(
                children(mesh)
                    .find(|child| child.name == "nats-server")
                    .map(|child| ("nats", child.pid)),
            );
        }
        // The backend's own process, if it is on this machine, has the postmaster as its parent.
        let backend = store::backend_pid(&place.owner)
            .await
            .ok()
            .and_then(|pid| Stat::read(u32::try_from(pid).ok()?));
        let postmaster = backend
            .filter(|stat| stat.name == "postgres")
            .and_then(|stat| Stat::read(stat.parent));
        found.extend(
            postmaster
                .filter(|stat| stat.name == "postgres")
                .map(|stat| ("postgres", stat.pid)),
        );
        if Stat::read(std::process::id()).is_some() {
            found.push(("bench", std::process::id()));
        }
        Self(found)
    }

    /// CPU seconds so far, those of ended children included.
    pub(super) fn cpu_seconds(&self) -> ByProcess {
        let of = |(name, pid): &(&'static str, u32)| {
            let own = Stat::read(*pid)?;
            let ticks = own.ticks
                + if *name == "postgres" {
                    children(*pid).map(|child| child.ticks).sum()
                } else {
                    0
                };
            Some((*name, ticks as f64 / TICKS_PER_SECOND))
        };
        self.0.iter().filter_map(of).collect()
    }

    /// Resident memory now. Postgres: what each process has alone, and what they share once.
    pub(super) fn memory_mb(&self) -> ByProcess {
        let of = |(name, pid): &(&'static str, u32)| {
            let own = Resident::read(*pid)?;
            let children = if *name == "postgres" {
                children(*pid).collect()
            } else {
                Vec::new()
            };
            let children: Vec<Resident> = children.iter().filter_map(|child| Resident::read(child.pid)).collect();
            let all = || children.iter().chain([&own]);
            let alone: u64 = all().map(|one| one.anonymous).sum();
            let shared = all().map(|one| one.shared).max().unwrap_or(0);
            let files = all().map(|one| one.files).max().unwrap_or(0);
            Some((*name, (alone + shared + files) as f64 / KIB_PER_MB))
        };
        self.0.iter().filter_map(of).collect()
    }

    /// Looks at the memory until it is asked for the most that was seen.
    pub(super) fn watch_memory(&self) -> MemoryWatch {
        let most = Arc::new(Mutex::new(self.memory_mb()));
        let (processes, seen) = (self.clone(), Arc::clone(&most));
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(SAMPLE_EVERY).await;
                processes.add_to(&mut seen.lock().unwrap_or_else(PoisonError::into_inner));
            }
        });
        MemoryWatch {
            most,
            processes: self.clone(),
            _tasks: tasks,
        }
    }

    fn add_to(&self, most: &mut ByProcess) {
        for (name, mb) in self.memory_mb() {
            let known = most.entry(name).or_default();
            *known = known.max(mb);
        }
    }
}

/// Resident memory of this process now; `None` where the system does not tell.
pub(super) fn own_memory_mb() -> Option<f64> {
    let own = Resident::read(std::process::id())?;
    Some((own.anonymous + own.files + own.shared) as f64 / KIB_PER_MB)
}

/// Ends with its value.
pub(super) struct MemoryWatch {
    most: Arc<Mutex<ByProcess>>,
    processes: Processes,
    _tasks: tokio::task::JoinSet<()>,
}

impl MemoryWatch {
    pub(super) fn most_mb(self) -> ByProcess {
        let mut most = self.most.lock().unwrap_or_else(PoisonError::into_inner);
        self.processes.add_to(&mut most);
        std::mem::take(&mut most)
    }
}

/// What was spent between two looks.
pub(super) fn difference(before: &ByProcess, after: &ByProcess) -> ByProcess {
    let spent = |(name, after): (&&'static str, &f64)| Some((*name, after - before.get(name)?));
    after.iter().filter_map(spent).collect()
}

/// The part of /proc/<pid>/stat that matters here.
#[derive(Debug)]
struct Stat {
    pid: u32,
    name: String,
    parent: u32,
    /// User and system time, that of ended children included.
    ticks: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(pid: u32, text: &str) -> Option<Self> {
        // The name stands in parentheses and may hold some itself, and blanks.
        let (start, end) = (text.find('(')?, text.rfind(')')?);
        let fields: Vec<&str> = text[end + 1..].split_whitespace().collect();
        let ticks = fields
            .get(11..15)?
            .iter()
            .map(|field| field.parse::<u64>().unwrap_or(0))
            .sum();
        let name = text.get(start + 1..end)?.to_owned();
        Some(Self {
            pid,
            name,
            parent: fields.get(1)?.parse().ok()?,
            ticks,
        })
    }
}

fn children(parent: u32) -> impl Iterator<Item = Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = entries.filter_map(|entry| Stat::read(entry.file_name().to_str()?.parse().ok()?));
    stats.filter(move |stat| stat.parent == parent)
}

/// KiB of /proc/<pid>/status.
#[derive(Debug, Default, PartialEq, Eq)]
struct Resident {
    anonymous: u64,
    files: u64,
    shared: u64,
}

impl Resident {
    fn read(pid: u32) -> Option<Self> {
        fs::read_to_string(format!("/proc/{pid}/status"))
            .ok()
            .map(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut resident = Self::default();
        for line in text.lines() {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let kib = || value.trim().trim_end_matches(" kB").parse().unwrap_or(0);
            match name {
                "RssAnon" => resident.anonymous = kib(),
                "RssFile" => resident.files = kib(),
                "RssShmem" => resident.shared = kib(),
                _ => {}
            }
        }
        resident
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_is_read() {
        let text = "7 (a) b (c)) S 3 7 7 0 -1 4194560 10 0 0 0 11 22 33 44 20 0 1 0 5";
        let stat = Stat::parse(7, text).unwrap();
        assert_eq!((stat.name.as_str(), stat.parent, stat.ticks), ("a) b (c)", 3, 110));
        assert!(Stat::parse(7, "7 (x").is_none());
    }

    #[test]
    fn memory_is_read_by_kind() {
        let text = "Name:\tx\nVmRSS:\t  9 kB\nRssAnon:\t  1024 kB\nRssFile:\t 12 kB\nRssShmem:\t 3 kB\n";
        assert_eq!(
            Resident::parse(text),
            Resident {
                anonymous: 1024,
                files: 12,
                shared: 3
            }
        );
    }

    #[test]
    fn what_was_spent_is_after_less_before() {
        let before = ByProcess::from([("mesh", 1.0), ("gone", 1.0)]);
        let after = ByProcess::from([("mesh", 1.5), ("new", 9.0)]);
        assert_eq!(difference(&before, &after), ByProcess::from([("mesh", 0.5)]));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_memory() {
        let processes = Processes(vec![("bench", std::process::id())]);
        assert!(processes.memory_mb()["bench"] > 1.0);
        assert!(processes.cpu_seconds().contains_key("bench"));
    }
}
