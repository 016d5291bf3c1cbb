//! What was measured, as JSON and as a table.

use serde::Serialize;

use super::RATIO_MAX;
use super::client::Measured;
use crate::output::{Output, Table};

/// One rate.
#[derive(Debug, Serialize)]
pub(super) struct Level {
    /// Clients.
    pub(super) concurrency: u32,
    /// Pushes that every client got, a second.
    pub(super) per_second: u32,
    /// From the sending of an event to its push at a client.
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// The same of the bare broadcast.
    pub(super) ceiling_p50_ms: f64,
    pub(super) ceiling_p99_ms: f64,
    /// `p99_ms / ceiling_p99_ms`.
    pub(super) ratio: f64,
    /// Of all but one client, which stopped reading.
    pub(super) beside_stopped_p99_ms: f64,
    /// `beside_stopped_p99_ms / p99_ms`.
    pub(super) beside_stopped_ratio: f64,
    /// Pushes that a client did not get once and in order: of the gateway, beside the stopped one, of the bare broadcast.
    pub(super) lost: [u64; 3],
}

impl Level {
    pub(super) fn new(clients: u32, rate: u32, [ours, beside, bare]: [&Measured; 3]) -> Self {
        let p99 = |measured: &Measured| measured.latencies.quantile_ms(0.99);
        let lost = |measured: &Measured| measured.expected - measured.latencies.count();
        Self {
            concurrency: clients,
            per_second: rate,
            p50_ms: ours.latencies.quantile_ms(0.5),
            p99_ms: p99(ours),
            ceiling_p50_ms: bare.latencies.quantile_ms(0.5),
            ceiling_p99_ms: p99(bare),
            ratio: p99(ours) / p99(bare),
            beside_stopped_p99_ms: p99(beside),
            beside_stopped_ratio: p99(beside) / p99(ours),
            lost: [ours, beside, bare].map(lost),
        }
    }

    /// The bar that is missed, if one is.
    pub(super) fn why_not(&self) -> Option<String> {
        let rate = self.per_second;
        if self.lost[..2].iter().any(|lost| *lost > 0) {
            Some(format!("at {rate}/s {:?} pushes were lost", self.lost))
        } else if self.ratio > RATIO_MAX {
            Some(format!(
                "at {rate}/s p99 is {:.2} times the bare broadcast's, above {RATIO_MAX}",
                self.ratio
            ))
        } else if self.beside_stopped_ratio > RATIO_MAX {
            Some(format!(
                "at {rate}/s a client that stops reading moves p99 by {:.2}",
                self.beside_stopped_ratio
            ))
        } else {
            None
        }
    }
}

pub(super) fn print(levels: &[Level], output: Output) -> anyhow::Result<()> {
    output.show(&levels, || table(levels, output))
}

fn table(levels: &[Level], output: Output) -> anyhow::Result<()> {
    let header = [
        "CLIENTS",
        "PER SECOND",
        "P50 MS",
        "P99 MS",
        "BARE P50",
        "BARE P99",
        "RATIO",
        "P99 BESIDE A STOPPED",
        "LOST",
    ];
    let mut table = Table::new(output, &header);
    for level in levels {
        table.row([
            level.concurrency.to_string(),
            level.per_second.to_string(),
            format!("{:.1}", level.p50_ms),
            format!("{:.1}", level.p99_ms),
            format!("{:.1}", level.ceiling_p50_ms),
            format!("{:.1}", level.ceiling_p99_ms),
            format!("{:.2}", level.ratio),
            format!("{:.1}", level.beside_stopped_p99_ms),
            level.lost.iter().sum::<u64>().to_string(),
        ]);
    }
    table.print()
}
