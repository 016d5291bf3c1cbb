//! One run: start everything, load and faults together, then quiet until all is ended, then read and judge.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::Instant;

use crate::checker::{check, figures};
use crate::evidence::Evidence;
use crate::faults::Faults;
use crate::faults::plan::{plan, role_of};
use crate::faults::points::{self, Hits};
use crate::ground::{Ground, Role};
use crate::load::plan::asks;
use crate::load::{Load, Told};
use crate::options::Options;
use crate::read::{self, Progress};
use crate::report::{Report, RunReport};

const LOOK: Duration = Duration::from_millis(250);
/// Nothing changes for so long: then the records are read.
const QUIET_LOOKS: u32 = 3;

/// Every seed of the options, one after the other.
///
/// # Errors
/// What keeps a run from being judged: servers that do not start, a program that is not there.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    let program = match &options.program {
        Some(program) => program.clone(),
        None => beside_us()?,
    };
    let points = points::in_sources(&options.sources.clone().unwrap_or_else(checkout))
        .context("the sources are read for their failpoints")?;
    let mut report = Report::new(options, points.clone());
    let armed: Vec<String> = match options.has_nodes() {
        true => points,
        false => points
            .into_iter()
            .filter(|point| role_of(point) != Role::Node)
            .collect(),
    };
    for seed in options.seed..options.seed + options.seeds() {
        let one = Box::pin(run_seed(options, seed, &program, &armed)).await;
        let (run, hits) = one.with_context(|| format!("seed {seed}"))?;
        if !options.json {
            println!("{run}");
        }
        report.add(run, hits);
        if options.planted.is_some() && report.is_good() {
            break;
        }
    }
    report.judge_points();
    Ok(report)
}

async fn run_seed(
    options: &Options,
    seed: u64,
    program: &Path,
    points: &[String],
) -> anyhow::Result<(RunReport, Hits)> {
    let began = Instant::now();
    let ground = Arc::new(Ground::start(program, seed, options).await?);
    let mut faults = Faults::tend(&ground, seed);
    let outcome = judge(options, seed, &ground, &mut faults, points).await;
    let log = faults.log();
    faults.stop().await;
    if let Some(folder) = &options.keep {
        keep(ground.folder(), &folder.join(format!("seed-{seed}")))?;
    }
    let hits = Hits::parse(&ground.hits());
    let evidence = outcome.with_context(|| ground.processes[0].log_tail(5))?;
    let mut run = RunReport {
        seed,
        seconds: began.elapsed().as_secs_f64(),
        injected: log
            .injected
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count))
            .collect(),
        cuts: ground.proxy.cuts(),
        fired: hits.fired.clone(),
        ended_themselves: log.ended_themselves,
        broken: log.broken,
        figures: figures(&evidence),
        violations: check(&evidence),
    };
    run.ended_themselves.sort();
    Ok((run, hits))
}

/// Load and faults, quiet, evidence.
async fn judge(
    options: &Options,
    seed: u64,
    ground: &Arc<Ground>,
    faults: &mut Faults,
    points: &[String],
) -> anyhow::Result<Evidence> {
    let with = options.load();
    let mut load = Load::prepare(ground, seed, &with).await?;
    let time = Duration::from_secs(options.seconds);
    let end = Instant::now() + time + Duration::from_secs(options.settle);
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    load.start(asks(seed, options.invocations, milliseconds, &with), end);
    faults.start(ground, plan(seed, time, &options.allowed(), points));
    faults.finish().await?;
    settle(&mut load, ground, end).await;
    let told = load.told();
    load.stop().await;
    let journal = read::journal(ground.database()).await?;
    let (ledger, model) = ground.fakes.seen();
    let Told {
        asked,
        poison,
        followed,
        replies,
    } = told;
    let faults = ground.faults().clone();
    Ok(Evidence {
        asked: asked.into_values().collect(),
        poison,
        journal,
        ledger,
        model,
        followed,
        replies,
        faults,
    })
}

/// Until all that was accepted has ended and is told everywhere, or the time is over: the checker says what is missing.
async fn settle(load: &mut Load, ground: &Ground, end: Instant) {
    let mut quiet = 0;
    while Instant::now() < end && quiet < QUIET_LOOKS {
        tokio::time::sleep(LOOK).await;
        let keys = load.accepted();
        let is_settled = match Progress::read(ground.database(), &keys).await {
            Ok(progress) => {
                usize::try_from(progress.ended).is_ok_and(|ended| ended >= keys.len())
                    && usize::try_from(progress.dead_messages).is_ok_and(|dead| dead >= load.poison())
                    && [progress.open, progress.mail, progress.behind, progress.stale] == [0; 4]
            }
            Err(_) => false,
        };
        quiet = if is_settled && load.is_done() { quiet + 1 } else { 0 };
    }
}

/// Another `mesh` to test; the end-to-end tests know it too.
const PROGRAM: &str = "AGENT_MESH_PROGRAM";

/// The `mesh` that the environment names, or the one in the folder of this program, or of the folder above for a test program in `deps`.
fn beside_us() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os(PROGRAM) {
        return Ok(named.into());
    }
    let ours = std::env::current_exe()?;
    let name = format!("mesh{}", std::env::consts::EXE_SUFFIX);
    let found = ours
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(&name))
        .find(|path| path.is_file());
    match found {
        Some(program) => Ok(program),
        None => bail!(
            "no `mesh` beside {}: `cargo build --workspace --bins` first, or --program",
            ours.display()
        ),
    }
}

/// Where the sources are.
fn checkout() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.ancestors().nth(2).unwrap_or(folder).to_owned()
}

fn keep(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)?.flatten() {
        let path = entry.path();
        let is_log = path.extension().is_some_and(|end| end == "log") || path.ends_with("failpoint-hits");
        if is_log && let Some(name) = path.file_name() {
            std::fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}
