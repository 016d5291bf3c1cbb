//! `mesh bench heartbeat`: what a fleet's heartbeats cost, and how many a second are held without loss, by a heartbeat
//! process on servers that it starts and removes.

mod ceiling;
mod fleet;
mod ground;
mod measure;
mod report;

use std::time::Duration;

use anyhow::bail;

use super::HeartbeatArgs;
use super::progress::Progress;
use crate::output::Output;
use fleet::Fleet;
use ground::Ground;
use measure::Load;
use report::Level;

/// Of every node: seconds between two heartbeats, and between two health reports.
const BEAT_SECONDS: f64 = 20.0;
const HEALTH_EVERY_BEATS: u64 = 3;
/// Heartbeats a second while the fleet comes.
const COMING_RATE: f64 = 5_000.0;
/// Where the ramp starts; each step doubles it.
const RAMP_START: f64 = 6_250.0;
/// Nothing here carries more.
const RAMP_END: f64 = 1_000_000.0;

pub(super) async fn run(args: HeartbeatArgs, output: Output) -> anyhow::Result<()> {
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
    match levels.iter().find(|level| level.load == "steady" && !level.held) {
        Some(level) => bail!("the steady load was not held: {}", level.why_not()),
        None => Ok(()),
    }
}

async fn measure(args: &HeartbeatArgs, levels: &mut Vec<Level>, progress: &Progress) -> anyhow::Result<()> {
    let ground = Ground::start(progress).await?;
    let measured = measure_on(&ground, args, levels, progress).await;
    ground.stop(progress).await?;
    measured
}

async fn measure_on(
    ground: &Ground,
    args: &HeartbeatArgs,
    levels: &mut Vec<Level>,
    progress: &Progress,
) -> anyhow::Result<()> {
    let step = Duration::from_secs(args.step_seconds);
    progress.phase("the ceiling: a subscriber that only counts");
    let ceiling = ceiling::measure(ground, step).await?;
    progress.phase(&format!("{} nodes come", args.nodes));
    let mut fleet = Fleet::connect(&ground.url, args.nodes).await?;
    measure::come(ground, &mut fleet, COMING_RATE).await?;
    let steady = Load {
        name: "steady",
        rate: args.nodes as f64 / BEAT_SECONDS,
        time: Duration::from_secs(args.seconds),
        health_every: Some(HEALTH_EVERY_BEATS),
    };
    if args.seconds > 0 {
        let level = measure::level(ground, &mut fleet, steady, ceiling, progress).await?;
        levels.push(level);
    }
    let mut rate = args.rate.map_or(RAMP_START, |rate| rate as f64);
    loop {
        let load = Load {
            name: "ramp",
            rate,
            time: step,
            health_every: None,
        };
        let level = measure::level(ground, &mut fleet, load, ceiling, progress).await?;
        let was_held = level.held;
        levels.push(level);
        rate *= 2.0;
        if !was_held || args.rate.is_some() || rate > RAMP_END {
            return Ok(());
        }
    }
}
