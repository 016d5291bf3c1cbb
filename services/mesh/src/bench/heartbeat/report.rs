//! What was measured, as JSON and as a table.

use serde::Serialize;

use crate::bench::processes::ByProcess;
use crate::output::{Output, Table};

/// One load.
#[derive(Debug, Serialize)]
pub(super) struct Level {
    /// Nodes.
    pub(super) concurrency: u64,
    /// Heartbeats sent a second.
    pub(super) per_second: f64,
    /// From a heartbeat's sending to an answer that has it.
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// What a subscriber that only counts hears.
    pub(super) ceiling_per_second: f64,
    /// `per_second / ceiling_per_second`.
    pub(super) ratio: f64,
    /// `steady`: with health reports, as a fleet says them; `ramp`: heartbeats only.
    pub(super) load: &'static str,
    pub(super) wanted_per_second: f64,
    /// As many were sent as wanted, all were counted by the service, and the newest of each node is in the answers.
    pub(super) held: bool,
    pub(super) sent: u64,
    /// Not counted by the service.
    pub(super) lost: u64,
    /// Nodes whose newest heartbeat is not in the answers.
    pub(super) newest_missing: u64,
    pub(super) seconds: f64,
    /// From the last heartbeat until all were taken in.
    pub(super) caught_up_ms: f64,
    /// Rows of Postgres that the reports became.
    pub(super) rows_written: u64,
    pub(super) presence_writes: u64,
    /// Of one core, while it was sent.
    pub(super) cpu_percent: ByProcess,
    /// Most memory seen.
    pub(super) rss_mb: ByProcess,
}

impl Level {
    pub(super) fn why_not(&self) -> String {
        if self.newest_missing > 0 {
            format!("the newest heartbeats of {} nodes are missing", self.newest_missing)
        } else if self.lost > 0 {
            format!("{} of {} heartbeats were lost", self.lost, self.sent)
        } else {
            format!(
                "{:.0} of {:.0} heartbeats a second could be sent",
                self.per_second, self.wanted_per_second
            )
        }
    }
}

pub(super) fn print(levels: &[Level], output: Output) -> anyhow::Result<()> {
    output.show(&levels, || tables(levels, output))
}

fn tables(levels: &[Level], output: Output) -> anyhow::Result<()> {
    let header = [
        "LOAD",
        "PER SECOND",
        "P50 MS",
        "P99 MS",
        "CEILING",
        "RATIO",
        "ROWS",
        "CPU %",
        "MEMORY MB",
        "HELD",
    ];
    let mut table = Table::new(output, &header);
    for level in levels {
        let own = |values: &ByProcess| {
            values
                .get("heartbeat")
                .map_or("-".to_owned(), |value| format!("{value:.1}"))
        };
        table.row([
            level.load.to_owned(),
            format!("{:.0}", level.per_second),
            format!("{:.2}", level.p50_ms),
            format!("{:.2}", level.p99_ms),
            format!("{:.0}", level.ceiling_per_second),
            format!("{:.3}", level.ratio),
            level.rows_written.to_string(),
            own(&level.cpu_percent),
            own(&level.rss_mb),
            if level.held { "yes".to_owned() } else { level.why_not() },
        ]);
    }
    table.print()?;
    let held = levels.iter().filter(|level| level.held).map(|level| level.per_second);
    match held.reduce(f64::max) {
        Some(highest) => output.line(&format!("\nheld without loss: {highest:.0} heartbeats/s")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level() -> Level {
        Level {
            concurrency: 20_000,
            per_second: 1_000.0,
            p50_ms: 1.0,
            p99_ms: 2.0,
            ceiling_per_second: 100_000.0,
            ratio: 0.01,
            load: "steady",
            wanted_per_second: 1_000.0,
            held: true,
            sent: 60_000,
            lost: 0,
            newest_missing: 0,
            seconds: 60.0,
            caught_up_ms: 1.0,
            rows_written: 80_000,
            presence_writes: 30_000,
            cpu_percent: ByProcess::from([("heartbeat", 5.0)]),
            rss_mb: ByProcess::new(),
        }
    }

    #[test]
    fn a_level_has_the_names_that_the_contract_fixes() {
        let value = serde_json::to_value([level()]).unwrap();
        for name in [
            "concurrency",
            "per_second",
            "p50_ms",
            "p99_ms",
            "ceiling_per_second",
            "ratio",
        ] {
            assert!(value[0][name].is_number(), "{name}");
        }
        assert_eq!(value[0]["cpu_percent"]["heartbeat"], 5.0);
    }

    #[test]
    fn what_was_not_held_says_why() {
        let slow = Level {
            per_second: 500.0,
            ..level()
        };
        assert_eq!(slow.why_not(), "500 of 1000 heartbeats a second could be sent");
        let lossy = Level { lost: 3, ..level() };
        assert_eq!(lossy.why_not(), "3 of 60000 heartbeats were lost");
        let missing = Level {
            newest_missing: 2,
            ..lossy
        };
        assert_eq!(missing.why_not(), "the newest heartbeats of 2 nodes are missing");
    }
}
