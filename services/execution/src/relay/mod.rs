//! The relay: what was committed goes to JOURNAL, to `reply_to`, to the dead letters and into the read model, in
//! passes. From memory while it keeps up; from the feed table after a takeover or when it fell behind.

mod catch_up;
mod publish;
mod summarise;

pub(crate) use publish::{FEED, TO_BATCH};
pub(crate) use summarise::Deferred;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use mesh_api::journal::Record;
use mesh_bus::Bus;
use mesh_types::InvocationId;
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::core::Meta;
use crate::core::summary::Summary;
use crate::shards::{SHARDS, ShardId};

/// Least time between two passes: many small batches become few messages and one statement.
const PASS_INTERVAL: Duration = Duration::from_millis(20);
/// The same while much is told: then an invocation of some steps is told in one message instead of three, which halves
/// what JOURNAL costs; its readers hear of it this much later.
const BUSY_PASS_INTERVAL: Duration = Duration::from_millis(60);
/// Invocations of one pass from which on it is much.
const BUSY_INVOCATIONS: usize = 64;
/// Batches of one pass.
const PASS_BATCHES_MAX: usize = 512;
/// Invocations of one pass, as they are written in one statement.
const PASS_INVOCATIONS_MAX: usize = 8_192;
/// Batches that wait in memory; past it the feed table is read.
const QUEUE_BATCHES: usize = 4_096;
const QUEUE_BYTES: usize = 64 * 1024 * 1024;
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// One committed batch of one shard, in order of the commit.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) shard: ShardId,
    pub(crate) batch: i64,
    /// About what it holds in memory.
    pub(crate) bytes: usize,
    pub(crate) invocations: Vec<CommittedInvocation>,
}

impl Committed {
    /// Adds what was told next; its records follow those that are there.
    pub(crate) fn append(&mut self, told: Vec<CommittedInvocation>) {
        for mut one in told {
            let last = self.invocations.last();
            one.ordinal = last.map_or(0, |last| {
                last.ordinal + u32::try_from(last.records.len()).unwrap_or(u32::MAX)
            });
            self.invocations.push(one);
        }
    }
}

#[derive(Debug)]
pub(crate) struct CommittedInvocation {
    pub(crate) meta: Arc<Meta>,
    pub(crate) records: Vec<Record>,
    /// `None`: nothing that a list shows has changed.
    pub(crate) summary: Option<Summary>,
    /// Place of its first record in the batch, over all of the batch's records; the others follow.
    pub(crate) ordinal: u32,
}

/// The way from the lanes to the relay, bounded in batches and bytes: what does not fit is read from the feed.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    sender: mpsc::Sender<Committed>,
    bytes: Arc<AtomicUsize>,
}

impl Outbox {
    /// With the end for [`Relay`], and the bytes that wait between the two.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Committed>, Arc<AtomicUsize>) {
        let (sender, receiver) = mpsc::channel(QUEUE_BATCHES);
        let bytes: Arc<AtomicUsize> = Arc::default();
        (
            Self {
                sender,
                bytes: Arc::clone(&bytes),
            },
            receiver,
            bytes,
        )
    }

    pub(crate) fn offer(&self, batch: Committed) {
        let bytes = batch.bytes;
        if self.bytes.load(Ordering::Relaxed) >= QUEUE_BYTES {
            return;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.sender.try_send(batch).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// How far each shard is committed here and relayed.
#[derive(Debug)]
pub(crate) struct Marks {
    relayed: [AtomicI64; SHARDS as usize],
    committed: [AtomicI64; SHARDS as usize],
    /// Summaries of open invocations wait to be written.
    deferred: AtomicBool,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            relayed: std::array::from_fn(|_| AtomicI64::new(0)),
            committed: std::array::from_fn(|_| AtomicI64::new(0)),
            deferred: AtomicBool::new(false),
        }
    }
}

impl Marks {
    pub(crate) fn get(&self, shard: ShardId) -> i64 {
        self.relayed[usize::from(shard)].load(Ordering::Acquire)
    }

    fn set(&self, shard: ShardId, batch: i64) {
        self.relayed[usize::from(shard)].store(batch, Ordering::Release);
    }

    pub(crate) fn set_committed(&self, shard: ShardId, batch: i64) {
        self.committed[usize::from(shard)].store(batch, Ordering::Relaxed);
    }

    /// Batches of the shard that are committed here and not relayed.
    pub(crate) fn lag(&self, shard: ShardId) -> i64 {
        let committed = self.committed[usize::from(shard)].load(Ordering::Relaxed);
        committed.saturating_sub(self.get(shard)).max(0)
    }

    /// Whether lists still lack what the marks say is relayed. Ask after reading the marks.
    pub(crate) fn is_deferring(&self) -> bool {
        self.deferred.load(Ordering::Acquire)
    }

    fn set_deferring(&self, deferring: bool) {
        self.deferred.store(deferring, Ordering::Release);
    }
}

/// A shard was taken over: go on from what its last owner relayed.
#[derive(Debug, Clone)]
pub(crate) struct Adopted {
    pub(crate) shard: ShardId,
    pub(crate) relayed: i64,
    pub(crate) batch: i64,
    /// Of the feed that its marks in JOURNAL belong to.
    pub(crate) feed_id: Arc<str>,
}

pub(crate) struct Relay {
    pub(crate) bus: Bus,
    pub(crate) pool: PgPool,
    pub(crate) marks: Arc<Marks>,
    pub(crate) committed: mpsc::Receiver<Committed>,
    /// Of all that waits in `committed`.
    pub(crate) queued: Arc<AtomicUsize>,
    pub(crate) adopted: mpsc::UnboundedReceiver<Adopted>,
    pub(crate) stop: CancellationToken,
    /// Feed of each shard, as of its adoption.
    pub(crate) feeds: HashMap<ShardId, Arc<str>>,
    /// When each shard's mark was last published.
    pub(crate) marked: HashMap<ShardId, tokio::time::Instant>,
    /// Summaries of open invocations that are not written yet.
    pub(crate) deferred: Deferred,
    /// Highest batch of each shard that a message in JOURNAL stands for: passes without one join the next.
    pub(crate) announced: HashMap<ShardId, i64>,
}

/// What one pass tells of one invocation.
#[derive(Debug)]
struct Told {
    meta: Arc<Meta>,
    records: Vec<Record>,
    summary: Option<Summary>,
    /// Of each record: batch and ordinal.
    places: Vec<(i64, u32)>,
    to: i64,
    ordinal: i32,
}

impl Relay {
    /// Ends once it is stopped and has relayed what is queued.
    pub(crate) async fn run(mut self) {
        loop {
            let due = self.deferred.due();
            let first = tokio::select! {
                biased;
                adopted = self.adopted.recv() => match adopted {
                    Some(adopted) => { self.adopt(adopted).await; continue; }
                    None => self.committed.recv().await,
                },
                () = async { tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)).await }, if due.is_some() => {
                    self.write_deferred().await;
                    continue;
                }
                committed = self.committed.recv() => committed,
            };
            let Some(first) = first else {
                self.write_deferred().await;
                return;
            };
            let began = tokio::time::Instant::now();
            // A takeover that was committed before this batch comes first.
            while let Ok(adopted) = self.adopted.try_recv() {
                self.adopt(adopted).await;
            }
            let mut told = first.invocations.len();
            let mut batches = vec![first];
            while batches.len() < PASS_BATCHES_MAX
                && told < PASS_INVOCATIONS_MAX
                && let Ok(batch) = self.committed.try_recv()
            {
                told += batch.invocations.len();
                batches.push(batch);
            }
            let bytes = batches.iter().map(|batch| batch.bytes).sum();
            self.queued.fetch_sub(bytes, Ordering::Relaxed);
            self.pass(batches).await;
            if !self.stop.is_cancelled() {
                let interval = if told < BUSY_INVOCATIONS {
                    PASS_INTERVAL
                } else {
                    BUSY_PASS_INTERVAL
                };
                tokio::time::sleep_until(began + interval).await;
            }
        }
    }

    async fn adopt(&mut self, adopted: Adopted) {
        let relayed = if mesh_runtime::planted::is_planted("serial_id_relay") {
            // As if batches were numbered over all shards.
            (0..SHARDS)
                .map(|shard| self.marks.get(shard))
                .max()
                .unwrap_or_default()
                .max(adopted.relayed)
        } else {
            adopted.relayed
        };
        self.marks.set(adopted.shard, relayed);
        self.feeds.insert(adopted.shard, adopted.feed_id);
        self.announced.remove(&adopted.shard);
        if adopted.batch > adopted.relayed {
            tracing::info!(
                shard = adopted.shard,
                from = adopted.relayed,
                to = adopted.batch,
                "relaying what the last owner left"
            );
            self.catch_up(adopted.shard, adopted.batch).await;
        }
        self.summarise_open(adopted.shard, adopted.batch).await;
    }

    async fn pass(&mut self, batches: Vec<Committed>) {
        let mut contiguous: Vec<Committed> = Vec::with_capacity(batches.len());
        let mut reached: HashMap<ShardId, i64> = HashMap::new();
        for batch in batches {
            let last = reached
                .get(&batch.shard)
                .copied()
                .unwrap_or_else(|| self.marks.get(batch.shard));
            if batch.batch <= last {
                continue;
            }
            if batch.batch > last + 1 {
                // Something was dropped: tell what is at hand, then read the feed up to here.
                self.tell(std::mem::take(&mut contiguous)).await;
                reached.clear();
                self.catch_up(batch.shard, batch.batch - 1).await;
                if self.marks.get(batch.shard) < batch.batch - 1 {
                    // Stopped in the gap: nothing behind it may be told.
                    return;
                }
            }
            reached.insert(batch.shard, batch.batch);
            contiguous.push(batch);
        }
        self.tell(contiguous).await;
    }

    /// Publishes and summarises batches that follow what was relayed, then moves the marks.
    async fn tell(&mut self, batches: Vec<Committed>) {
        let mut reached: HashMap<ShardId, i64> = HashMap::new();
        let mut told: Vec<Told> = Vec::new();
        let mut places: HashMap<InvocationId, usize> = HashMap::new();
        for batch in batches {
            reached.insert(batch.shard, batch.batch);
            for (ordinal, committed) in batch.invocations.into_iter().enumerate() {
                let ordinal = i32::try_from(ordinal).unwrap_or(i32::MAX);
                let recorded = (committed.ordinal..).take(committed.records.len());
                let recorded = recorded.map(|ordinal| (batch.batch, ordinal));
                let place = *places.entry(committed.meta.id).or_insert(told.len());
                if let Some(known) = told.get_mut(place) {
                    known.records.extend(committed.records);
                    known.places.extend(recorded);
                    known.summary = committed.summary.or_else(|| known.summary.take());
                    (known.to, known.ordinal) = (batch.batch, ordinal);
                } else {
                    told.push(Told {
                        meta: committed.meta,
                        records: committed.records,
                        summary: committed.summary,
                        places: recorded.collect(),
                        to: batch.batch,
                        ordinal,
                    });
                }
            }
        }
        if reached.is_empty() {
            return;
        }
        if !(self.publish(&told, &reached).await && self.summarise(&told).await) {
            // Stopped: whoever follows relays it.
            return;
        }
        for (shard, batch) in reached {
            self.marks.set(shard, batch);
            self.publish_mark(shard, batch).await;
        }
    }
}
