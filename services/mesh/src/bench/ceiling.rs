//! The ceiling: the rows of the same invocations, group-committed straight into Postgres over as many connections as
//! there are lanes. What the mesh adds to it is what it costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mesh_types::{Clock, SystemClock};
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ceiling_lane::{Course, Lap, run};
use super::stopwatch::Latencies;
use super::store::rows::Template;
use super::store::{checkpoint, scratch};

/// Connections that write, as an execution process has.
pub(super) const LANES: usize = 2;
/// Invocations in a batch at most; the best of the three counts.
const BATCHES: [usize; 3] = [16, 64, 256];
const WARM_UP: Duration = Duration::from_millis(500);

/// What Postgres alone does with the same rows.
#[derive(Debug, Clone)]
pub(super) struct Ceiling {
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) batch_max: usize,
    pub(super) invocations: u64,
}

/// How long and how much.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) time: Duration,
    pub(super) count: u64,
}

/// Best of the batch sizes. Leaves its rows to [`scratch::remove`].
pub(super) async fn measure(
    lanes: &PgPool,
    owner: &PgPool,
    template: &Arc<Template>,
    concurrency: u64,
    bounds: Bounds,
) -> anyhow::Result<Ceiling> {
    let mut best: Option<Ceiling> = None;
    for batch_max in BATCHES {
        scratch::create(owner).await?;
        // Only a superuser may; then none of the measurements has one before it.
        let _ = checkpoint(owner).await;
        let ceiling = measure_at(lanes, template, concurrency, bounds, batch_max).await?;
        if best.as_ref().is_none_or(|best| best.per_second < ceiling.per_second) {
            best = Some(ceiling);
        }
        scratch::remove(owner).await?;
    }
    best.context("no batch size was measured")
}

async fn measure_at(
    pool: &PgPool,
    template: &Arc<Template>,
    concurrency: u64,
    bounds: Bounds,
    batch_max: usize,
) -> anyhow::Result<Ceiling> {
    let (queues, receivers): (Vec<_>, Vec<_>) = (0..LANES).map(|_| mpsc::unbounded_channel()).unzip();
    let mut connections = Vec::with_capacity(LANES);
    for _ in 0..LANES {
        connections.push(pool.acquire().await?.detach());
    }
    let began = Instant::now();
    let counts_from = began + WARM_UP;
    let course = Arc::new(Course {
        template: Arc::clone(template),
        batch: batch_max,
        at: SystemClock::default().now(),
        began,
        counts_from,
        ends: counts_from + bounds.time,
        budget: AtomicU64::new(bounds.count),
        in_flight: AtomicU64::new(concurrency),
        queues,
        over: CancellationToken::new(),
    });
    for _ in 0..concurrency {
        if !course.begin() {
            course.in_flight.fetch_sub(1, Ordering::AcqRel);
        }
    }
    let mut lanes = JoinSet::new();
    for (connection, queue) in connections.into_iter().zip(receivers) {
        lanes.spawn(run(Arc::clone(&course), connection, queue));
    }
    let mut laps = Vec::with_capacity(LANES);
    while let Some(lap) = lanes.join_next().await {
        laps.push(lap??);
    }
    summarise(&laps, counts_from, batch_max)
}

fn summarise(laps: &[Lap], counts_from: Instant, batch_max: usize) -> anyhow::Result<Ceiling> {
    let last = laps
        .iter()
        .filter_map(|lap| lap.last)
        .max()
        .context("the ceiling wrote nothing in its time")?;
    let mut latencies = Latencies::new();
    laps.iter()
        .flat_map(|lap| &lap.latencies)
        .for_each(|latency| latencies.record(*latency));
    Ok(Ceiling {
        per_second: latencies.count() as f64 / (last - counts_from).as_secs_f64(),
        p50_ms: latencies.quantile_ms(0.5),
        p99_ms: latencies.quantile_ms(0.99),
        batch_max,
        invocations: latencies.count(),
    })
}
