//! What was measured, as JSON and as a table, and which bars were missed.

use serde::Serialize;

use super::measure::Filter;
use crate::output::{Output, Table};

const RECALL_MIN: f64 = 0.98;
const RECALL_FILTERED_MIN: f64 = 0.99;
/// Of plain SQL's searches a second.
const RATIO_MIN: f64 = 0.8;
/// Of plain SQL's, for [`P99_DIMS`] and [`P99_CLIENTS`].
const P99_RATIO_MAX: f64 = 1.5;
const P99_DIMS: u32 = 384;
const P99_CLIENTS: u64 = 8;

/// One table, filter and number of clients.
#[derive(Debug, Serialize)]
pub(super) struct Level {
    /// Clients, each with one search at a time.
    pub(super) concurrency: u64,
    /// Searches a second of the service, over NATS.
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Of plain SQL, in turns with it.
    pub(super) ceiling_per_second: f64,
    /// `per_second / ceiling_per_second`.
    pub(super) ratio: f64,
    /// `p99_ms / plain.p99_ms`.
    pub(super) p99_ratio: f64,
    /// Share of the really nearest ten that were found.
    pub(super) recall: f64,
    pub(super) dims: u32,
    /// Memories in the table.
    pub(super) rows: u64,
    /// `none`, or `1 %`: an agent that owns one memory in a hundred.
    pub(super) filter: &'static str,
    pub(super) plain: Side,
    pub(super) load_seconds: f64,
    /// Of the graph.
    pub(super) build_seconds: f64,
}

/// What one side did.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Side {
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) recall: f64,
}

impl Level {
    /// What it should have reached and did not.
    pub(super) fn missed(&self) -> Vec<String> {
        let recall_min = if self.filter == Filter::None.as_str() {
            RECALL_MIN
        } else {
            RECALL_FILTERED_MIN
        };
        let mut missed = Vec::new();
        if self.recall < recall_min {
            missed.push(format!("recall {:.3} is below {recall_min}", self.recall));
        }
        if self.ratio < RATIO_MIN {
            missed.push(format!(
                "{:.2} of plain SQL's throughput is below {RATIO_MIN}",
                self.ratio
            ));
        }
        let is_timed = self.dims == P99_DIMS && self.concurrency == P99_CLIENTS;
        if is_timed && self.p99_ratio > P99_RATIO_MAX {
            missed.push(format!(
                "p99 is {:.2} times plain SQL's, above {P99_RATIO_MAX}",
                self.p99_ratio
            ));
        }
        let which = format!(
            "{} dimensions, filter {}, {} clients",
            self.dims, self.filter, self.concurrency
        );
        missed.into_iter().map(|what| format!("{which}: {what}")).collect()
    }
}

pub(super) fn print(levels: &[Level], output: Output) -> anyhow::Result<()> {
    output.show(&levels, || {
        let header = [
            "DIMS",
            "FILTER",
            "CLIENTS",
            "PER SECOND",
            "P50 MS",
            "P99 MS",
            "RECALL@10",
            "PLAIN SQL",
            "P50 MS",
            "P99 MS",
            "RECALL@10",
            "RATIO",
            "P99 RATIO",
            "BUILD S",
        ];
        let mut table = Table::new(output, &header);
        for level in levels {
            table.row([
                level.dims.to_string(),
                level.filter.to_owned(),
                level.concurrency.to_string(),
                format!("{:.0}", level.per_second),
                format!("{:.2}", level.p50_ms),
                format!("{:.2}", level.p99_ms),
                format!("{:.3}", level.recall),
                format!("{:.0}", level.plain.per_second),
                format!("{:.2}", level.plain.p50_ms),
                format!("{:.2}", level.plain.p99_ms),
                format!("{:.3}", level.plain.recall),
                format!("{:.2}", level.ratio),
                format!("{:.2}", level.p99_ratio),
                format!("{:.1}", level.build_seconds),
            ]);
        }
        table.print()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level() -> Level {
        Level {
            concurrency: 8,
            per_second: 900.0,
            p50_ms: 1.0,
            p99_ms: 2.0,
            ceiling_per_second: 1_000.0,
            ratio: 0.9,
            p99_ratio: 1.2,
            recall: 0.985,
            dims: 384,
            rows: 100_000,
            filter: Filter::None.as_str(),
            plain: Side {
                per_second: 1_000.0,
                p50_ms: 1.0,
                p99_ms: 1.7,
                recall: 0.985,
            },
            load_seconds: 1.0,
            build_seconds: 1.0,
        }
    }

    #[test]
    fn a_level_has_the_names_that_the_contract_fixes() {
        let value = serde_json::to_value([level()]).unwrap();
        let names = [
            "concurrency",
            "per_second",
            "p50_ms",
            "p99_ms",
            "ceiling_per_second",
            "ratio",
        ];
        assert!(names.iter().all(|name| value[0][name].is_number()), "{value}");
    }

    #[test]
    fn a_missed_bar_is_named() {
        assert!(level().missed().is_empty());
        let filtered = Level {
            filter: Filter::OnePercent.as_str(),
            ..level()
        };
        assert_eq!(
            filtered.missed(),
            ["384 dimensions, filter 1 %, 8 clients: recall 0.985 is below 0.99"]
        );
        let slow = Level {
            ratio: 0.79,
            p99_ratio: 1.6,
            ..level()
        };
        assert_eq!(slow.missed().len(), 2);
        let other = Level { dims: 1_536, ..slow };
        assert_eq!(other.missed().len(), 1, "the bar for p99 is for 384 dimensions");
    }
}
