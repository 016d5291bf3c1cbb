//! `mesh bench memory`: searches by vector through the service, beside the same by plain SQL, on servers that it starts
//! and removes.

mod ground;
mod measure;
mod mixture;
mod plain;
mod report;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;

use super::MemoryArgs;
use super::progress::Progress;
use crate::output::Output;
use ground::Ground;
use measure::{Filter, Questions};
use mixture::Mixture;
use report::Level;
use rows::Table;

/// Questions, asked again and again; recall is measured by each of them.
const QUESTIONS: usize = 100;
const SEED: u64 = 7;

pub(super) async fn run(args: MemoryArgs, output: Output) -> anyhow::Result<()> {
    let progress = Progress::new();
    let mut levels = Vec::new();
    let measured = tokio::select! {
        measured = measure(&args, &mut levels, &progress) => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted; the servers of the measurement are removed")),
    };
    drop(progress);
    if !levels.is_empty() {
        report::print(&levels, output)?;
    }
    measured?;
    let missed: Vec<String> = levels.iter().flat_map(Level::missed).collect();
    if missed.is_empty() {
        return Ok(());
    }
    bail!("{}", missed.join("\n"))
}

async fn measure(args: &MemoryArgs, levels: &mut Vec<Level>, progress: &Progress) -> anyhow::Result<()> {
    let ground = Ground::start(progress).await?;
    let measured = measure_on(&ground, args, levels, progress).await;
    ground.stop(progress).await?;
    measured
}

async fn measure_on(
    ground: &Ground,
    args: &MemoryArgs,
    levels: &mut Vec<Level>,
    progress: &Progress,
) -> anyhow::Result<()> {
    let time = Duration::from_secs(args.seconds);
    let mut connection = ground.database().await?;
    progress.phase(&format!("loading {} memories", args.rows));
    rows::put_memories(&mut connection, args.rows).await?;
    for dims in &args.dims {
        let table = Table {
            dims: *dims,
            rows: args.rows,
        };
        let mut mixture = Mixture::new(*dims as usize, SEED);
        let loaded = rows::put_vectors(&mut connection, table, &mut mixture, progress).await?;
        let vectors = Arc::new((0..QUESTIONS).map(|_| mixture.vector()).collect::<Vec<_>>());
        for filter in Filter::ALL {
            let which = format!("{dims} dimensions, filter {}", filter.as_str());
            progress.phase(&format!("{which}: the really nearest of {QUESTIONS} questions"));
            let questions = Questions::new(ground, table, filter, Arc::clone(&vectors)).await?;
            let recall = questions.recall(ground).await?;
            for clients in &args.clients {
                progress.phase(&format!("{which}: {clients} clients, {} s each side", args.seconds));
                levels.push(questions.level(ground, *clients, time, recall, loaded).await?);
            }
        }
    }
    Ok(())
}
