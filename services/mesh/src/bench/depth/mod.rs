//! `mesh bench depth`: what waits, forks, long histories and sessions cost, on a mesh that it starts and removes. Each
//! figure that must hold has its bar.

mod forks;
mod ground;
mod history;
mod messages;
mod report;
mod session;
mod store;
mod timing;
mod waiting;

use anyhow::bail;

use super::DepthArgs;
use super::progress::Progress;
use crate::output::Output;
use ground::Ground;
use report::Measure;

pub(super) async fn run(args: DepthArgs, output: Output) -> anyhow::Result<()> {
    let progress = Progress::new();
    let mut results = Results::default();
    let measured = tokio::select! {
        measured = measure(&args, &mut results, &progress) => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted; the mesh of the measurement is removed")),
    };
    drop(progress);
    let Results { measures, failed } = results;
    if !measures.is_empty() {
        report::print(&measures, output)?;
    }
    measured?;
    let missed = measures.iter().flat_map(Measure::missed);
    let missed: Vec<String> = failed.into_iter().chain(missed).collect();
    if !missed.is_empty() {
        bail!("missed: {}", missed.join("; "));
    }
    Ok(())
}

/// What could be measured, and why the rest could not.
#[derive(Default)]
struct Results {
    measures: Vec<Measure>,
    failed: Vec<String>,
}

impl Results {
    /// One that fails leaves the others to be measured.
    fn take(&mut self, what: &str, measured: anyhow::Result<Measure>) {
        match measured {
            Ok(measure) => self.measures.push(measure),
            Err(error) => self.failed.push(format!("{what} could not be measured: {error:#}")),
        }
    }
}

/// What waits is measured in a mesh that did nothing before: what others leave in memory would hide it.
async fn measure(args: &DepthArgs, results: &mut Results, progress: &Progress) -> anyhow::Result<()> {
    if args.waiting > 0 {
        let ground = Ground::start(&history::scripts(0), progress).await?;
        results.take("waiting", waiting::measure(&ground.place, args.waiting, progress).await);
        ground.stop(progress).await?;
    }
    if args.steps == 0 && args.session == 0 {
        return Ok(());
    }
    let ground = Ground::start(&history::scripts(args.steps), progress).await?;
    let place = &ground.place;
    if args.steps > 0 {
        results.take("fork", forks::of_noop(place, args.steps, progress).await);
        match history::measure(place, args.steps, progress).await {
            Ok((growing, measure)) => {
                results.take("history", Ok(measure));
                results.take("fork_of_history", forks::of_history(place, &growing, progress).await);
            }
            Err(error) => results.take("history", Err(error)),
        }
    }
    if args.session > 0 {
        results.take("session", session::measure(place, args.session, progress).await);
    }
    ground.stop(progress).await
}
