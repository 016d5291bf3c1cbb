//! What the process takes of its machine, by the names that every Prometheus client uses, and how busy its runtime is.
//! Read from `/proc` when somebody asks; elsewhere than on Linux only the runtime is told.

use std::collections::HashMap;
use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, Metric, MetricFamily, MetricType};

/// Linux counts a process's time in hundredths of a second for every reader, whatever the kernel's own tick (proc(5),
/// `sysconf(_SC_CLK_TCK)`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Name, kind, help.
const ROWS: [(&str, MetricType, &str); 8] = [
    (
        "process_cpu_seconds_total",
        MetricType::COUNTER,
        "Processor time of the process, in seconds.",
    ),
    (
        "process_resident_memory_bytes",
        MetricType::GAUGE,
        "Memory of the process that is in RAM, in bytes.",
    ),
    ("process_open_fds", MetricType::GAUGE, "Open files and sockets."),
    (
        "process_max_fds",
        MetricType::GAUGE,
        "Most files and sockets that may be open.",
    ),
    (
        "process_start_time_seconds",
        MetricType::GAUGE,
        "When the process started, in seconds since 1970.",
    ),
    ("process_threads", MetricType::GAUGE, "Threads of the process."),
    (
        "runtime_tasks",
        MetricType::GAUGE,
        "Tasks of the async runtime that have not ended.",
    ),
    (
        "runtime_queue_depth",
        MetricType::GAUGE,
        "Tasks that wait in the async runtime's shared queue.",
    ),
];

/// Collects them at each reading.
pub(super) struct Process {
    descriptions: Vec<Desc>,
}

impl Process {
    pub(super) fn new() -> Self {
        let describe = |(name, _, help): &(&str, MetricType, &str)| {
            Desc::new((*name).to_owned(), (*help).to_owned(), Vec::new(), HashMap::new())
        };
        // The names are literals that Prometheus takes; one that it did not would only not be shown.
        Self {
            descriptions: ROWS.iter().filter_map(|row| describe(row).ok()).collect(),
        }
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stat = fs::read_to_string("/proc/self/stat")
            .ok()
            .and_then(|text| Stat::parse(&text));
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let boot = fs::read_to_string("/proc/stat")
            .ok()
            .and_then(|text| word_after(&text, "btime"));
        let runtime = tokio::runtime::Handle::try_current()
            .ok()
            .map(|runtime| runtime.metrics());
        let values = [
            stat.map(|stat| stat.ticks / TICKS_PER_SECOND),
            // In KiB whatever the machine's page size.
            word_after(&status, "VmRSS:").map(|kibibytes| kibibytes * 1_024.0),
            // The folder that is being read is open, too.
            fs::read_dir("/proc/self/fd")
                .ok()
                .map(|files| files.count().saturating_sub(1) as f64),
            word_after(&limits, "Max open files"),
            stat.zip(boot)
                .map(|(stat, boot)| boot + stat.started / TICKS_PER_SECOND),
            word_after(&status, "Threads:"),
            runtime.as_ref().map(|runtime| runtime.num_alive_tasks() as f64),
            runtime.as_ref().map(|runtime| runtime.global_queue_depth() as f64),
        ];
        let known = ROWS.iter().zip(values).filter_map(|(row, value)| Some((row, value?)));
        known
            .map(|((name, kind, help), value)| family(name, *kind, help, value))
            .collect()
    }
}

/// Of `/proc/self/stat`, in ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stat {
    /// In user and in kernel mode together.
    ticks: f64,
    /// Since the machine's boot.
    started: f64,
}

impl Stat {
    /// Fields 14, 15 and 22; the second one, the name, may hold blanks and parentheses.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
        Some(Self {
            ticks: number(14)? + number(15)?,
            started: number(22)?,
        })
    }
}

/// The number behind that word at the beginning of a line.
fn word_after(text: &str, word: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(word))?;
    line.split_whitespace().next()?.parse().ok()
}

fn family(name: &str, kind: MetricType, help: &str, value: f64) -> MetricFamily {
    let mut metric = Metric::default();
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(vec![metric]);
    family
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn a_name_with_blanks_and_parentheses_hides_no_field() {
        let text = "17 (a ) b) S 1 17 17 0 -1 4194560 5 0 0 0 250 50 0 0 20 0 9 0 1234 100 7";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(
            stat,
            Stat {
                ticks: 300.0,
                started: 1_234.0
            }
        );
        assert_eq!(Stat::parse("17 (a) S 1"), None);
        assert_eq!(
            word_after("Max open files            1024   4096 files\n", "Max open files"),
            Some(1_024.0)
        );
        assert_eq!(
            word_after("Max open files            unlimited\n", "Max open files"),
            None
        );
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn this_process_tells_of_itself() {
        let text = Metrics::default().render().unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
        };
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        let started = value("process_start_time_seconds");
        assert!(started <= now + 1.0 && started > now - 3_600.0, "{started} {now}");
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!((3.0..=value("process_max_fds")).contains(&value("process_open_fds")));
        assert!(value("process_threads") >= 1.0 && value("process_cpu_seconds_total") >= 0.0);
        assert!(
            text.contains("\nruntime_tasks ") && text.contains("\nruntime_queue_depth "),
            "{text}"
        );
    }
}
