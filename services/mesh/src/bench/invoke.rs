//! `mesh bench invoke`: level by level, the mesh and then its ceiling; afterwards the durable inbox. Cleans up at
//! every end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use sqlx::PgPool;

use super::InvokeArgs;
use super::agent::{self, Target};
use super::calls::{self, Calls};
use super::ceiling::{self, Bounds, Ceiling};
use super::intake::{self, Alone};
use super::place::Place;
use super::processes::{ByProcess, Processes, difference};
use super::progress::Progress;
use super::report::{self, Intake, Level, rounded};
use super::store::{self, rows, scratch};
use crate::failure::advised;
use crate::output::Output;

const WARM_UP: Duration = Duration::from_secs(1);
/// Postgres's processes report their counters at most once a second, after a commit.
const COUNTERS_LAG: Duration = Duration::from_millis(1_050);
/// Enough that every lane commits once.
const NUDGES: u64 = 12;

pub(super) async fn run(args: InvokeArgs, output: Output) -> anyhow::Result<()> {
    let progress = Progress::new();
    let bench = Bench::new(args, &progress).await?;
    let Some(lock) = scratch::lock(&bench.place.owner).await? else {
        return Err(advised(
            anyhow::anyhow!("another measurement runs on this database"),
            "wait until it is done",
        ));
    };
    let needs_rows = !bench.no_ceiling;
    let measured = async {
        if needs_rows {
            scratch::remove(&bench.place.owner).await.context(
                "the ceiling needs the database user that migrated (it makes and removes a table): name it with \
                 --database, or leave the ceiling out with --no-ceiling",
            )?;
        }
        bench.measure(&progress).await
    };
    let measured = tokio::select! {
        measured = measured => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted; what the measurement wrote is removed")),
    };
    progress.phase("cleaning up");
    let removed = if needs_rows {
        scratch::remove(&bench.place.owner).await
    } else {
        Ok(())
    };
    // The server frees it with the connection, whatever the answer is.
    let _ = lock.release().await;
    let levels = measured?;
    removed.context("the rows of tenant `bench-ceiling` are not removed; the next measurement does it")?;
    drop(progress);
    report::print(&levels, output)?;
    match levels.iter().find_map(|level| level.first_failure.as_ref()) {
        Some(failure) => bail!("some calls failed, the first with: {failure}"),
        None => Ok(()),
    }
}

struct Bench {
    place: Place,
    target: Target,
    processes: Processes,
    levels: Vec<u64>,
    bounds: Bounds,
    no_ceiling: bool,
    no_intake: bool,
}

impl Bench {
    async fn new(args: InvokeArgs, progress: &Progress) -> anyhow::Result<Self> {
        let place = Place::find(args.place).await?;
        let durability = &place.durability;
        progress.say(&format!("measuring {}", place.describe()));
        progress.say(&format!(
            "Postgres {}: fsync {}, synchronous_commit {}, full_page_writes {}; nats-server {}: sync_interval {}",
            durability.postgres,
            durability.fsync,
            durability.synchronous_commit,
            durability.full_page_writes,
            durability.nats_server,
            durability.jetstream_sync_interval
        ));
        if !durability.is_durable {
            progress.say("NOT DURABLE: these settings may lose what was confirmed; the figures say so too");
        }
        let target = agent::publish(&place.bus, args.steps).await?;
        let processes = Processes::find(&place).await;
        let bounds = Bounds {
            time: Duration::from_secs(args.seconds),
            count: args.count.unwrap_or(u64::MAX),
        };
        Ok(Self {
            place,
            target,
            processes,
            levels: args.concurrency,
            bounds,
            no_ceiling: args.no_ceiling,
            no_intake: args.no_intake,
        })
    }

    async fn measure(&self, progress: &Progress) -> anyhow::Result<Vec<Level>> {
        let mut levels = Vec::with_capacity(self.levels.len());
        for concurrency in &self.levels {
            levels.push(self.level(*concurrency, progress).await?);
        }
        if !self.no_intake {
            let journal_ceiling = levels
                .iter()
                .filter_map(|level: &Level| level.ceiling_per_second)
                .reduce(f64::max);
            progress.phase("starting a nats-server to compare the durable inbox with");
            let alone = Alone::start(&self.place).await?;
            for level in &mut levels {
                level.intake = Some(
                    self.intake(alone.as_ref(), level.concurrency, journal_ceiling, progress)
                        .await?,
                );
            }
            // Stopping waits for the server.
            tokio::task::spawn_blocking(move || drop(alone)).await?;
        }
        Ok(levels)
    }

    async fn level(&self, concurrency: u64, progress: &Progress) -> anyhow::Result<Level> {
        let (place, target) = (&self.place, &self.target);
        let connections = place.connections(calls::connections(concurrency)).await?;
        progress.phase(&format!("{concurrency} in flight: warming up"));
        let warm_up = calls::run(target, &connections, concurrency, self.at_most(WARM_UP)).await?;
        self.settle(&warm_up).await?;
        self.nudge().await?;
        // Only a superuser may; then no level has one before it.
        let _ = store::checkpoint(&place.owner).await;
        let fsyncs = store::wal_fsyncs(&place.owner).await?;
        progress.phase(&format!(
            "{concurrency} in flight: measuring for up to {:?}",
            self.bounds.time
        ));
        let memory = self.processes.watch_memory();
        let cpu = self.processes.cpu_seconds();
        let calls = calls::run(target, &connections, concurrency, self.bounds).await?;
        let caught_up = self.settle(&calls).await?;
        let cpu = difference(&cpu, &self.processes.cpu_seconds());
        let rss_mb = memory.most_mb();
        self.nudge().await?;
        let fsyncs = spent(fsyncs, store::wal_fsyncs(&place.owner).await?);
        let template = rows::read(&place.lanes, &target.tenant, &target.agent).await?;
        let template = Arc::new(template.context("the measured invocations are not in the lists")?);
        let ceiling = self.ceiling(&template, concurrency, progress).await?;
        let seconds = (caught_up - calls.started).as_secs_f64();
        let completed = calls.latencies.count();
        let per_second = completed as f64 / seconds;
        let ceiling_per_second = ceiling.as_ref().map(|ceiling| ceiling.per_second);
        Ok(Level {
            concurrency,
            per_second: rounded(per_second),
            p50_ms: calls.latencies.quantile_ms(0.5),
            p99_ms: calls.latencies.quantile_ms(0.99),
            ceiling_per_second: ceiling_per_second.map(rounded),
            ratio: ceiling_per_second.map(|ceiling| rounded(per_second / ceiling)),
            steps: target.steps,
            completed,
            failed: calls.failed,
            first_failure: calls.first_failure,
            seconds: rounded(seconds),
            caught_up_ms: rounded((caught_up - calls.answered).as_secs_f64() * 1_000.0),
            max_ms: calls.latencies.max_ms(),
            records_per_invocation: template.records(),
            ceiling_p50_ms: ceiling.as_ref().map(|ceiling| ceiling.p50_ms),
            ceiling_p99_ms: ceiling.as_ref().map(|ceiling| ceiling.p99_ms),
            ceiling_batch_max: ceiling.as_ref().map(|ceiling| ceiling.batch_max),
            ceiling_invocations: ceiling.as_ref().map(|ceiling| ceiling.invocations),
            cpu_us_per_invocation: per_invocation(&cpu, completed),
            cpu_seconds: cpu
                .into_iter()
                .map(|(name, seconds)| (name, rounded(seconds)))
                .collect(),
            rss_mb: rss_mb.into_iter().map(|(name, mb)| (name, rounded(mb))).collect(),
            fsyncs_per_invocation: fsyncs.map(|fsyncs| rounded(fsyncs as f64 / (completed + NUDGES) as f64)),
            intake: None,
            durable: place.durability.clone(),
        })
    }

    fn at_most(&self, time: Duration) -> Bounds {
        Bounds {
            time: self.bounds.time.min(time),
            count: self.bounds.count,
        }
    }

    /// When feed and lists have all of these.
    async fn settle(&self, calls: &Calls) -> anyhow::Result<std::time::Instant> {
        let lanes: &PgPool = &self.place.lanes;
        calls::caught_up(&self.place, &self.target, |_| async {
            Ok(store::completed(lanes, &calls.ids).await? == calls.ids.len() as u64)
        })
        .await
    }

    /// Has every process of Postgres that commits report its counters.
    async fn nudge(&self) -> anyhow::Result<()> {
        tokio::time::sleep(COUNTERS_LAG).await;
        let bounds = Bounds {
            time: Duration::from_secs(10),
            count: NUDGES,
        };
        calls::run(&self.target, std::slice::from_ref(&self.place.bus), 1, bounds)
            .await
            .map(drop)
    }

    async fn ceiling(
        &self,
        template: &Arc<rows::Template>,
        concurrency: u64,
        progress: &Progress,
    ) -> anyhow::Result<Option<Ceiling>> {
        if self.no_ceiling {
            return Ok(None);
        }
        progress.phase(&format!(
            "{concurrency} in flight: the same rows straight into Postgres"
        ));
        // Three batch sizes take as long as the level and a half.
        let bounds = Bounds {
            time: (self.bounds.time / 2).min(Duration::from_secs(5)),
            count: self.bounds.count,
        };
        ceiling::measure(&self.place.lanes, &self.place.owner, template, concurrency, bounds)
            .await
            .map(Some)
    }

    async fn intake(
        &self,
        alone: Option<&Alone>,
        concurrency: u64,
        journal_ceiling: Option<f64>,
        progress: &Progress,
    ) -> anyhow::Result<Intake> {
        let bounds = self.at_most(self.bounds.time / 2);
        progress.phase(&format!("{concurrency} publishers: a stream alone"));
        let publish_ceiling = match alone {
            Some(alone) => Some(alone.per_second(&self.target, concurrency, bounds).await?),
            None => None,
        };
        progress.phase(&format!("{concurrency} publishers: the durable inbox"));
        intake::measure(
            &self.place,
            &self.target,
            concurrency,
            bounds,
            publish_ceiling,
            journal_ceiling,
        )
        .await
    }
}

fn spent(before: Option<i64>, after: Option<i64>) -> Option<i64> {
    Some(after? - before?)
}

/// Microseconds by process, and of all together.
fn per_invocation(cpu: &ByProcess, completed: u64) -> ByProcess {
    let each = |seconds: f64| rounded(seconds * 1_000_000.0 / completed.max(1) as f64);
    let mut by_process: ByProcess = cpu.iter().map(|(name, seconds)| (*name, each(*seconds))).collect();
    by_process.insert("all", each(cpu.values().sum()));
    by_process
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_told_by_process_and_in_all() {
        let cpu = ByProcess::from([("mesh", 0.5), ("postgres", 1.5)]);
        let each = per_invocation(&cpu, 10_000);
        assert_eq!(
            each,
            ByProcess::from([("mesh", 50.0), ("postgres", 150.0), ("all", 200.0)])
        );
    }
}
