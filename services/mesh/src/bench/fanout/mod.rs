//! `mesh bench fanout`: how soon a push is with every client, beside a bare broadcast over axum's WebSockets in a process
//! of its own, by the same clients with the same text; and whether a client that stops reading is noticed by the others.

pub(super) mod bare;
mod client;
mod ground;
mod report;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::FanoutArgs;
use super::progress::Progress;
use crate::open_files;
use crate::output::Output;
use client::Crowd;
use ground::Ground;
use report::Level;

/// Files that a process has open besides its clients.
const OTHER_FILES: u64 = 200;
/// Pushes of which nothing is measured, before each level.
const WARM_UP: u32 = 5;
/// Largest p99 beside the bare broadcast's, and beside that without a client that stopped reading.
pub(super) const RATIO_MAX: f64 = 1.2;
/// How long the last push may take to the last client.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn run(args: FanoutArgs, output: Output) -> anyhow::Result<()> {
    let needed = u64::from(args.clients) + OTHER_FILES;
    if let Some(limit) = open_files::raise().filter(|limit| *limit < needed) {
        bail!(
            "{} clients need {needed} open files, and the limit is {limit}: `ulimit -n {needed}`",
            args.clients
        );
    }
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
    match levels.iter().find_map(Level::why_not) {
        Some(reason) => bail!("{reason}"),
        None => Ok(()),
    }
}

async fn measure(args: &FanoutArgs, levels: &mut Vec<Level>, progress: &Progress) -> anyhow::Result<()> {
    let ground = Ground::start(progress).await?;
    let measured = measure_on(&ground, args, levels, progress).await;
    ground.stop(progress).await?;
    measured
}

async fn measure_on(
    ground: &Ground,
    args: &FanoutArgs,
    levels: &mut Vec<Level>,
    progress: &Progress,
) -> anyhow::Result<()> {
    let mut number = 0;
    for rate in &args.rate {
        let course = Course {
            rate: *rate,
            time: Duration::from_secs(args.seconds),
        };
        progress.phase(&format!("{} clients of the gateway, {rate} pushes/s", args.clients));
        let mut crowd = Crowd::connect(ground.gateway, client::GATEWAY, args.clients).await?;
        let template = crowd.template(ground.push_one(&mut number).await?).await?;
        let ours = course.run(&mut crowd, &mut number, Sender::Gateway(ground)).await?;

        let stopped = ground.stopped_reader().await.context("a client that stops reading")?;
        progress.phase(&format!(
            "{} clients of the gateway and one that does not read, {rate} pushes/s",
            args.clients
        ));
        let beside = course.run(&mut crowd, &mut number, Sender::Gateway(ground)).await?;
        drop((stopped, crowd));

        progress.phase(&format!(
            "{} clients of a bare broadcast, {rate} pushes/s",
            args.clients
        ));
        let mut crowd = Crowd::connect(ground.bare, client::BARE, args.clients).await?;
        let bare = course
            .run(&mut crowd, &mut number, Sender::Bare(ground, &template))
            .await?;
        drop(crowd);
        levels.push(Level::new(args.clients, *rate, [&ours, &beside, &bare]));
    }
    Ok(())
}

struct Course {
    rate: u32,
    time: Duration,
}

/// By what a push is sent.
enum Sender<'a> {
    Gateway(&'a Ground),
    /// With the text that the gateway's clients got.
    Bare(&'a Ground, &'a str),
}

impl Course {
    /// Sends at the rate, however long each takes, and waits until every client has heard all.
    async fn run(&self, crowd: &mut Crowd, number: &mut u64, sender: Sender<'_>) -> anyhow::Result<client::Measured> {
        let gap = Duration::from_secs(1) / self.rate;
        let count = u32::try_from(self.time.as_millis() / gap.as_millis().max(1))?.max(1);
        let mut began = Instant::now();
        let mut first = *number + 1;
        for turn in 0..count + WARM_UP {
            if turn == WARM_UP {
                crowd.heard(*number, PATIENCE).await?;
                (began, first) = (Instant::now(), *number + 1);
            }
            *number += 1;
            let due = if turn < WARM_UP { turn } else { turn - WARM_UP };
            tokio::time::sleep_until((began + gap * due).into()).await;
            crowd.sent(*number, Instant::now());
            match &sender {
                Sender::Gateway(ground) => ground.push(*number).await?,
                Sender::Bare(ground, template) => ground.send_bare(template, *number).await?,
            }
        }
        crowd.heard(*number, PATIENCE).await?;
        Ok(crowd.measured(first, *number))
    }
}
