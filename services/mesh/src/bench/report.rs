//! What was measured, as JSON and as tables.

use serde::Serialize;

use super::place::Durability;
use super::processes::ByProcess;
use crate::output::{Output, Table};

/// One level; `null` is what was not measured.
#[derive(Debug, Serialize)]
pub(super) struct Level {
    /// Invocations in flight.
    pub(super) concurrency: u64,
    /// Completed invocations, until feed and lists had caught up.
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) ceiling_per_second: Option<f64>,
    /// `per_second / ceiling_per_second`.
    pub(super) ratio: Option<f64>,
    pub(super) steps: u32,
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) first_failure: Option<String>,
    /// From the first call until feed and lists had caught up.
    pub(super) seconds: f64,
    /// From the last answer until then.
    pub(super) caught_up_ms: f64,
    pub(super) max_ms: f64,
    pub(super) records_per_invocation: usize,
    pub(super) ceiling_p50_ms: Option<f64>,
    pub(super) ceiling_p99_ms: Option<f64>,
    pub(super) ceiling_batch_max: Option<usize>,
    pub(super) ceiling_invocations: Option<u64>,
    pub(super) cpu_seconds: ByProcess,
    pub(super) cpu_us_per_invocation: ByProcess,
    /// Most memory seen in this level.
    pub(super) rss_mb: ByProcess,
    /// Of Postgres's log; a call has nothing synced by NATS.
    pub(super) fsyncs_per_invocation: Option<f64>,
    pub(super) intake: Option<Intake>,
    pub(super) durable: Durability,
}

/// Through the durable inbox: `concurrency` publishers, each with one message not acknowledged yet.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Intake {
    pub(super) concurrency: u64,
    /// Completed invocations, until feed and lists had caught up.
    pub(super) per_second: f64,
    /// From publish to acknowledgement.
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// The lower of the next two.
    pub(super) ceiling_per_second: Option<f64>,
    /// The same messages into the same stream of a nats-server of its own, taken in by nobody.
    pub(super) publish_ceiling_per_second: Option<f64>,
    /// Best of the levels' ceilings: the rows alone.
    pub(super) journal_ceiling_per_second: Option<f64>,
    pub(super) ratio: Option<f64>,
    pub(super) accepted: u64,
    pub(super) accepted_per_second: f64,
    pub(super) seconds: f64,
}

pub(super) fn print(levels: &[Level], output: Output) -> anyhow::Result<()> {
    output.show(&levels, || tables(levels, output))
}

fn tables(levels: &[Level], output: Output) -> anyhow::Result<()> {
    calls(levels, output).print()?;
    if levels.iter().any(|level| level.intake.is_some()) {
        output.line("")?;
        intake(levels, output).print()?;
    }
    output.line("")?;
    processes(levels, output).print()
}

fn calls(levels: &[Level], output: Output) -> Table {
    let header = [
        "IN FLIGHT",
        "PER SECOND",
        "P50 MS",
        "P99 MS",
        "CEILING",
        "RATIO",
        "CPU US",
        "FSYNCS",
        "FAILED",
    ];
    let mut table = Table::new(output, &header);
    for level in levels {
        table.row([
            level.concurrency.to_string(),
            whole(Some(level.per_second)),
            precise(Some(level.p50_ms)),
            precise(Some(level.p99_ms)),
            whole(level.ceiling_per_second),
            precise(level.ratio),
            whole(level.cpu_us_per_invocation.get("all").copied()),
            precise(level.fsyncs_per_invocation),
            level.failed.to_string(),
        ]);
    }
    table
}

fn intake(levels: &[Level], output: Output) -> Table {
    let header = [
        "INTAKE",
        "PER SECOND",
        "ACK P50 MS",
        "ACK P99 MS",
        "CEILING",
        "RATIO",
        "PUBLISH CEILING",
    ];
    let mut table = Table::new(output, &header);
    for one in levels.iter().filter_map(|level| level.intake.as_ref()) {
        table.row([
            one.concurrency.to_string(),
            whole(Some(one.per_second)),
            precise(Some(one.p50_ms)),
            precise(Some(one.p99_ms)),
            whole(one.ceiling_per_second),
            precise(one.ratio),
            whole(one.publish_ceiling_per_second),
        ]);
    }
    table
}

fn processes(levels: &[Level], output: Output) -> Table {
    let header = ["PROCESS", "IN FLIGHT", "CPU S", "CPU US PER INVOCATION", "MEMORY MB"];
    let mut table = Table::new(output, &header);
    for level in levels {
        for (name, seconds) in &level.cpu_seconds {
            table.row([
                (*name).to_owned(),
                level.concurrency.to_string(),
                precise(Some(*seconds)),
                whole(level.cpu_us_per_invocation.get(name).copied()),
                whole(level.rss_mb.get(name).copied()),
            ]);
        }
    }
    table
}

fn whole(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"))
}

fn precise(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}

/// To so many digits that runs can be compared, and no more.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_has_the_names_that_the_contract_fixes() {
        let durable = Durability {
            is_durable: true,
            fsync: "on".into(),
            synchronous_commit: "on".into(),
            full_page_writes: "on".into(),
            jetstream_sync_interval: "always",
            postgres: "18.4".into(),
            nats_server: "2.15.1".into(),
        };
        let level = Level {
            concurrency: 64,
            per_second: 1.0,
            p50_ms: 1.0,
            p99_ms: 1.0,
            ceiling_per_second: None,
            ratio: None,
            steps: 3,
            completed: 1,
            failed: 0,
            first_failure: None,
            seconds: 1.0,
            caught_up_ms: 1.0,
            max_ms: 1.0,
            records_per_invocation: 6,
            ceiling_p50_ms: None,
            ceiling_p99_ms: None,
            ceiling_batch_max: None,
            ceiling_invocations: None,
            cpu_seconds: ByProcess::from([("mesh", 1.0)]),
            cpu_us_per_invocation: ByProcess::from([("mesh", 1.0)]),
            rss_mb: ByProcess::new(),
            fsyncs_per_invocation: None,
            intake: None,
            durable,
        };
        let value = serde_json::to_value([&level]).unwrap();
        for name in [
            "concurrency",
            "per_second",
            "p50_ms",
            "p99_ms",
            "ceiling_per_second",
            "ratio",
        ] {
            assert!(value[0].get(name).is_some(), "{name}");
        }
        assert_eq!(value[0]["durable"]["jetstream_sync_interval"], "always");
        assert!(value[0]["ceiling_per_second"].is_null());
    }

    #[test]
    fn what_was_not_measured_is_a_dash() {
        assert_eq!(
            (whole(None), precise(None), whole(Some(1.6))),
            ("-".into(), "-".into(), "2".into())
        );
        assert!((rounded(0.123_456) - 0.123).abs() < f64::EPSILON);
    }
}
