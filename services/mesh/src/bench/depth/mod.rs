//! `mesh bench depth`: what waits, forks, long histories and sessions cost, on a mesh that it starts and removes. Each
//! figure that must hold has its bar.

mod ground;
mod history;
mod messages;
mod report;
mod session;
mod store;
mod timing;
mod waiting;

mod forks;

use anyhow::bail;

use super::DepthArgs;
use super::progress::Progress;
use crate::output::Output;
use ground::Ground;
use report::Measure;

pub(super) async fn run(args: DepthArgs, output: Output) -> anyhow::Result<()> {
    let progress = Progress::new();
    let measured = tokio::select! {
        measured = measure(&args, &progress) => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted; the mesh of the measurement is removed")),
    };
    let measures = measured?;
    drop(progress);
    report::print(&measures, output)?;
    let missed: Vec<String> = measures.iter().flat_map(Measure::missed).collect();
    if !missed.is_empty() {
        bail!("missed: {}", missed.join("; "));
    }
    Ok(())
}

/// What waits is measured in a mesh that did nothing before: what others leave in memory would hide it.
async fn measure(args: &DepthArgs, progress: &Progress) -> anyhow::Result<Vec<Measure>> {
    let mut measures = Vec::new();
    if args.waiting > 0 {
        let ground = Ground::start(&history::scripts(0), progress).await?;
        measures.push(waiting::measure(&ground.place, args.waiting, progress).await?);
        ground.stop(progress).await?;
    }
    if args.steps == 0 && args.session == 0 {
        return Ok(measures);
    }
    let ground = Ground::start(&history::scripts(args.steps), progress).await?;
    if args.steps > 0 {
        measures.push(forks::of_noop(&ground.place, args.steps, progress).await?);
        let (growing, measure) = history::measure(&ground.place, args.steps, progress).await?;
        measures.push(measure);
        measures.push(forks::of_history(&ground.place, &growing, progress).await?);
    }
    if args.session > 0 {
        measures.push(session::measure(&ground.place, args.session, progress).await?);
    }
    ground.stop(progress).await?;
    Ok(measures)
}
