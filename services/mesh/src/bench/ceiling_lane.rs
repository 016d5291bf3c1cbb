//! One lane of the ceiling: a connection, a queue, and batches of what waits. No replay, no answer, no NATS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use mesh_types::Timestamp;
use sqlx::PgConnection;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::ceiling::LANES;
use super::store::rows::{Entry, Fence, Template, write};
use super::store::scratch::{FIRST_SHARD, SHARDS};

/// An invocation on its way through its commits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    entry: Entry,
    started: Instant,
}

/// What the lanes of one measurement share.
pub(super) struct Course {
    pub(super) template: Arc<Template>,
    /// Invocations in one batch at most.
    pub(super) batch: usize,
    /// Wall time of `began`; times and ids go on from there.
    pub(super) at: Timestamp,
    pub(super) began: Instant,
    /// What ends before is not counted: it warms up.
    pub(super) counts_from: Instant,
    /// Nothing begins after.
    pub(super) ends: Instant,
    /// Counted invocations that may still begin.
    pub(super) budget: AtomicU64,
    pub(super) in_flight: AtomicU64,
    pub(super) queues: Vec<mpsc::UnboundedSender<Running>>,
    /// Nothing is in flight any more.
    pub(super) over: CancellationToken,
}

impl Course {
    /// Puts a new invocation on its lane; `false` when none may begin any more.
    pub(super) fn begin(&self) -> bool {
        let started = Instant::now();
        let spends = |left: u64| left.checked_sub(1);
        let may_begin = started < self.counts_from
            || (started < self.ends
                && self
                    .budget
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spends)
                    .is_ok());
        if may_begin {
            let random = mixed();
            let at = self.at.plus(started - self.began);
            let id = u128::from(at.as_millis()) << 80 | random >> 48;
            let shard = i16::try_from(random % u128::from(SHARDS.unsigned_abs())).unwrap_or_default();
            let entry = Entry {
                id: Uuid::from_u128(id),
                shard: FIRST_SHARD + shard,
                commit: 0,
            };
            // The lanes read until `over`, which comes after the last invocation.
            let _ = self.queues[usize::from(shard.unsigned_abs()) % LANES].send(Running { entry, started });
        }
        may_begin
    }

    fn now(&self) -> Timestamp {
        self.at.plus(self.began.elapsed())
    }
}

/// 128 bits that no other call gets: the standard library's keyed hash over a counter.
fn mixed() -> u128 {
    use std::hash::BuildHasher;
    static COUNT: AtomicU64 = AtomicU64::new(0);
    thread_local!(static KEYS: [std::hash::RandomState; 2] = Default::default());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    KEYS.with(|[high, low]| u128::from(high.hash_one(count)) << 64 | u128::from(low.hash_one(count)))
}

/// Times of the counted invocations of one lane.
#[derive(Debug, Default)]
pub(super) struct Lap {
    pub(super) latencies: Vec<Duration>,
    pub(super) last: Option<Instant>,
}

pub(super) async fn run(
    course: Arc<Course>,
    mut connection: PgConnection,
    mut queue: mpsc::UnboundedReceiver<Running>,
) -> anyhow::Result<Lap> {
    let mut lap = Lap::default();
    let mut batches: BTreeMap<i16, i64> = BTreeMap::new();
    loop {
        let first = tokio::select! {
            biased;
            first = queue.recv() => first,
            () = course.over.cancelled() => None,
        };
        let Some(first) = first else { return Ok(lap) };
        let mut waiting = vec![first];
        while waiting.len() < course.batch
            && let Ok(next) = queue.try_recv()
        {
            waiting.push(next);
        }
        let entries: Vec<Entry> = waiting.iter().map(|running| running.entry).collect();
        let fences = fences(&course.template, &entries, &batches);
        let at = course.now().to_chrono();
        let standing = write(&mut connection, &course.template, &fences, &entries, at).await?;
        if standing != fences.len() {
            bail!(
                "{} of {} shards of the ceiling are gone: does another measurement run?",
                fences.len() - standing,
                fences.len()
            );
        }
        for fence in fences {
            batches.insert(fence.shard, fence.batch + 1);
        }
        for running in waiting {
            course.committed(running, &mut lap);
        }
    }
}

impl Course {
    fn committed(&self, mut running: Running, lap: &mut Lap) {
        running.entry.commit += 1;
        if running.entry.commit < self.template.commits.len() {
            let lane = usize::from((running.entry.shard - FIRST_SHARD).unsigned_abs()) % LANES;
            let _ = self.queues[lane].send(running);
            return;
        }
        let now = Instant::now();
        if now >= self.counts_from {
            lap.latencies.push(now - running.started);
            lap.last = Some(now);
        }
        if !self.begin() && self.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.over.cancel();
        }
    }
}

/// One for each shard of the batch, with its list of (invocation, seq), in one order.
fn fences(template: &Template, entries: &[Entry], batches: &BTreeMap<i16, i64>) -> Vec<Fence> {
    let mut fences: BTreeMap<i16, Fence> = BTreeMap::new();
    for entry in entries {
        let shard = entry.shard;
        let batch = batches.get(&shard).copied().unwrap_or(0);
        let fence = fences.entry(shard).or_insert_with(|| Fence {
            shard,
            batch,
            feed: Vec::new(),
        });
        for record in &template.commits[entry.commit] {
            fence.feed.extend_from_slice(entry.id.as_bytes());
            fence.feed.extend_from_slice(&record.seq.to_be_bytes());
        }
    }
    fences.into_values().collect()
}
