//! `mesh bench embed`: what the local embedder costs, in this process: loading, a batch of short texts, memory.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use mesh_embed::SentenceModel;
use mesh_servers::EmbedderWeights;
use serde::Serialize;

use crate::output::{Output, Table};

use super::processes::own_memory_mb;

#[derive(Debug, Args)]
pub(crate) struct EmbedArgs {
    /// Short texts of the batch
    #[arg(long, default_value_t = 200, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    texts: u32,
}

const LOAD_SECONDS_MAX: f64 = 1.0;
const BATCH_SECONDS_MAX: f64 = 6.0;
/// The bar's batch.
const BATCH_TEXTS: u32 = 200;
const LOADED_MB_MAX: f64 = 300.0;
const UNLOADED_MB_MAX: f64 = 100.0;

/// How long the allocator gets to give memory back, and how often it is looked.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Sentences of a dozen words each; a number makes each text its own.
const SENTENCES: [&str; 8] = [
    "Anna prefers jasmine tea in the morning, without sugar, and coffee after lunch",
    "The dentist moved the appointment to Thursday at half past two",
    "Invoice number four was paid late because the bank had a holiday",
    "The deployment was rolled back after the migration locked a table",
    "Our cat sleeps on the windowsill whenever the sun comes out",
    "The violin recital takes place on Sunday in the old town hall",
    "Please remember that the summer house has no heating in October",
    "The new colleague from Lviv starts on the first of the month",
];

#[derive(Debug, Serialize)]
struct Report {
    texts: u32,
    load_seconds: f64,
    batch_seconds: f64,
    texts_per_second: f64,
    /// Of one text alone.
    single_ms: f64,
    before_mb: Option<f64>,
    loaded_mb: Option<f64>,
    unloaded_mb: Option<f64>,
}

pub(super) async fn run(args: EmbedArgs, output: Output) -> anyhow::Result<()> {
    let mut progress = crate::up::Report::new();
    let resolved = crate::cli::blocking(move || {
        let resolved = EmbedderWeights::resolve(&mut progress);
        progress.end();
        resolved
    });
    let folder = resolved.await?.folder;
    let report = crate::cli::blocking(move || measure(&folder, args.texts)).await?;
    let report = settled(report).await?;
    output.show(&report, || print(&report, output))?;
    // A build without optimisation of all of it says nothing of the real one.
    if cfg!(debug_assertions) {
        return Ok(());
    }
    missed(&report).map_or(Ok(()), |missed| bail!(missed))
}

/// On one thread, as the service does it on a machine of two cores.
fn measure(folder: &std::path::Path, count: u32) -> Result<Report, mesh_embed::ModelError> {
    let texts: Vec<String> = (0..count)
        .map(|i| format!("{} ({i}).", SENTENCES[i as usize % SENTENCES.len()]))
        .collect();
    let before_mb = own_memory_mb();
    let started = Instant::now();
    let model = SentenceModel::load(folder)?;
    let load_seconds = started.elapsed().as_secs_f64();
    let started = Instant::now();
    // In pieces, as the service's queue gives them.
    for part in texts.chunks(32) {
        model.embed(part)?;
    }
    let batch_seconds = started.elapsed().as_secs_f64();
    let loaded_mb = own_memory_mb();
    let started = Instant::now();
    model.embed(&texts[..1])?;
    let single_ms = started.elapsed().as_secs_f64() * 1_000.0;
    Ok(Report {
        texts: count,
        load_seconds,
        batch_seconds,
        texts_per_second: f64::from(count) / batch_seconds,
        single_ms,
        before_mb,
        loaded_mb,
        unloaded_mb: None,
    })
}

/// The model is dropped; the allocator gives its memory back a moment later.
async fn settled(mut report: Report) -> anyhow::Result<Report> {
    let started = Instant::now();
    loop {
        report.unloaded_mb = crate::cli::blocking(|| Ok::<_, Infallible>(own_memory_mb())).await?;
        let is_back = report.unloaded_mb.is_none_or(|mb| mb < UNLOADED_MB_MAX);
        if is_back || started.elapsed() >= PATIENCE {
            return Ok(report);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn print(report: &Report, output: Output) -> anyhow::Result<()> {
    let megabytes = |mb: Option<f64>| mb.map_or("not told by this system".to_owned(), |mb| format!("{mb:.0} MB"));
    let mut table = Table::new(output, &["WHAT", "MEASURED", "BAR"]);
    let rows = [
        (
            "loading".to_owned(),
            format!("{:.2} s", report.load_seconds),
            format!("{LOAD_SECONDS_MAX:.0} s"),
        ),
        (
            format!("{} short texts", report.texts),
            format!("{:.2} s, {:.0}/s", report.batch_seconds, report.texts_per_second),
            format!("{BATCH_SECONDS_MAX:.0} s for {BATCH_TEXTS}"),
        ),
        (
            "one text".to_owned(),
            format!("{:.1} ms", report.single_ms),
            String::new(),
        ),
        ("memory before".to_owned(), megabytes(report.before_mb), String::new()),
        (
            "memory while loaded".to_owned(),
            megabytes(report.loaded_mb),
            format!("{LOADED_MB_MAX:.0} MB"),
        ),
        (
            "memory when unloaded".to_owned(),
            megabytes(report.unloaded_mb),
            format!("{UNLOADED_MB_MAX:.0} MB"),
        ),
    ];
    for (what, measured, bar) in rows {
        table.row([what, measured, bar]);
    }
    table.print()
}

/// The first bar that is missed.
fn missed(report: &Report) -> Option<String> {
    let batch_max = BATCH_SECONDS_MAX * f64::from(report.texts.max(BATCH_TEXTS)) / f64::from(BATCH_TEXTS);
    let bars = [
        ("loading", Some(report.load_seconds), LOAD_SECONDS_MAX, "s"),
        ("the batch", Some(report.batch_seconds), batch_max, "s"),
        ("memory while loaded", report.loaded_mb, LOADED_MB_MAX, "MB"),
        ("memory when unloaded", report.unloaded_mb, UNLOADED_MB_MAX, "MB"),
    ];
    bars.into_iter().find_map(|(what, measured, most, unit)| {
        let measured = measured.filter(|measured| *measured > most)?;
        Some(format!("{what}: {measured:.2} {unit}, more than {most:.0} {unit}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            texts: BATCH_TEXTS,
            load_seconds: 0.3,
            batch_seconds: 2.0,
            texts_per_second: 100.0,
            single_ms: 5.0,
            before_mb: Some(20.0),
            loaded_mb: Some(150.0),
            unloaded_mb: Some(30.0),
        }
    }

    #[test]
    fn a_missed_bar_is_named() {
        assert_eq!(missed(&report()), None);
        let slow = Report {
            batch_seconds: 6.5,
            ..report()
        };
        assert!(missed(&slow).unwrap().contains("the batch: 6.50 s"));
        let kept = Report {
            unloaded_mb: Some(140.0),
            ..report()
        };
        assert!(missed(&kept).unwrap().contains("unloaded"));
        let untold = Report {
            unloaded_mb: None,
            ..report()
        };
        assert_eq!(missed(&untold), None);
        let more = Report {
            texts: 1_000,
            batch_seconds: 20.0,
            ..report()
        };
        assert_eq!(missed(&more), None);
    }
}
