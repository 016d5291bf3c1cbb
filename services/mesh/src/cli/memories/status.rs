//! `mesh memories status`: the embedding model in use, and how far re-embedding is.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use mesh_api::memory::EmbeddingReport;

use crate::client::Client;
use crate::output::{Mood, Output, Table};

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Characters of the bar that is printed.
const BAR: usize = 24;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Look on until everything is embedded
    #[arg(short, long)]
    watch: bool,
}

pub(super) async fn run(args: StatusArgs, client: &Client, output: Output) -> anyhow::Result<()> {
    let mut report = ask(client).await?;
    if args.watch && report.waiting > 0 {
        report = watch(client, report).await?;
    }
    output.show(&report, || print(&report, output))
}

async fn ask(client: &Client) -> anyhow::Result<EmbeddingReport> {
    client.get("/api/v1/memories/embedding", &[]).await
}

/// Until nothing waits; a model that cannot be asked is waited for, too.
async fn watch(client: &Client, mut report: EmbeddingReport) -> anyhow::Result<EmbeddingReport> {
    let bar = std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::new(1_000);
        if let Ok(style) = ProgressStyle::with_template("{spinner} embedding {bar:24} {percent} %, {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar
    });
    while report.waiting > 0 {
        if let Some(bar) = &bar {
            bar.set_position(thousandths(report.progress));
            bar.set_message(format!("{} wait", report.waiting));
        }
        tokio::time::sleep(LOOK_EVERY).await;
        report = ask(client).await?;
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(report)
}

fn print(report: &EmbeddingReport, output: Output) -> anyhow::Result<()> {
    let state = match (report.available, report.loaded) {
        (true, Some(true)) => output.mood(Mood::Good, "ready, loaded"),
        (true, Some(false)) => output.mood(Mood::Good, "ready, loaded at its next use"),
        (true, None) => output.mood(Mood::Good, "ready"),
        (false, _) => output.mood(Mood::Bad, "not available: memories are found by their words only"),
    };
    let mut rows = vec![
        ("model", format!("{}, {} dimensions", report.current, report.dimensions)),
        ("state", state),
    ];
    if let Some(error) = &report.error {
        rows.push(("error", crate::output::shortened(error, 300)));
    }
    let progress = match report.waiting {
        0 => format!("{} 100 %", bar_of(1.0)),
        waiting => format!(
            "{} {} %, {waiting} wait",
            bar_of(report.progress),
            thousandths(report.progress) / 10
        ),
    };
    rows.push(("embedded", progress));
    for (what, value) in rows {
        output.line(&format!("{what:<11}{value}"))?;
    }
    if report.models.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let mut table = Table::new(output, &["MODEL", "DIMENSIONS", "VECTORS", "CURRENT"]);
    for model in &report.models {
        let is_current = model.model == report.current;
        table.row([
            model.model.clone(),
            model.dimensions.to_string(),
            model.vectors.to_string(),
            if is_current { "yes" } else { "" }.to_owned(),
        ]);
    }
    table.print()
}

/// Rounded down: 100 % is said when nothing waits.
fn thousandths(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * 1_000.0) as u64
}

fn bar_of(share: f64) -> String {
    let full = (share.clamp(0.0, 1.0) * BAR as f64) as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(BAR - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_the_share() {
        let full = |share| bar_of(share).chars().filter(|letter| *letter == '█').count();
        assert_eq!([0.0, 0.5, 0.999, 1.0, 7.0, f64::NAN].map(full), [0, 12, 23, 24, 24, 0]);
        assert_eq!(thousandths(0.9999), 999);
    }
}
