//! Ownership: beats for our shards, takes over silent ones, takes and gives shares. Safety never rests on it: epochs
//! checked inside each commit do that. It only decides how soon someone else goes on.

mod hand_over;
pub(crate) mod plan;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mesh_runtime::Context;
use mesh_runtime::fail_point;
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::plan::plan_takeovers;
use crate::directory::{Directory, Owner};
use crate::figures::{Figures, Takeover};
use crate::history::{History, Verdict};
use crate::lane::command::{Command, LaneHandle};
use crate::relay::{Adopted, Marks};
use crate::shards::{SHARDS, ShardId};
use crate::store::shards::{self, ShardRow};

const TICK: Duration = Duration::from_secs(1);
/// A longer pause between two passes, or one that failed, is our own silence and says nothing of others.
const PASS_GAP_MAX: Duration = Duration::from_secs(2);
/// Losing shards to our own name twice within this time: two processes have one name.
const NAMESAKE_WINDOW: Duration = Duration::from_secs(10);

pub(crate) struct Steward {
    pub(crate) context: Context,
    /// Ends it: all shards are given back then.
    pub(crate) stop: CancellationToken,
    /// From now on no shard is taken.
    pub(crate) draining: CancellationToken,
    pub(crate) pool: PgPool,
    /// The name of this process in the shard table.
    pub(crate) instance: Arc<str>,
    pub(crate) lanes: Vec<LaneHandle>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) history: History,
    pub(crate) marks: Arc<Marks>,
    pub(crate) figures: Arc<Figures>,
    pub(crate) adopted: mpsc::UnboundedSender<Adopted>,
    /// Shards that a namesake or a neighbour asked for: (shard, to whom).
    pub(crate) asked: mpsc::UnboundedReceiver<HandOver>,
    pub(crate) memory: Held,
}

/// What the steward remembers from pass to pass.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Epoch of each shard that we hold.
    /// In order: a statement over several shards locks their rows as the lanes' batches do.
    held: BTreeMap<ShardId, i64>,
    /// Each foreign shard as last seen changing, and when by our own clock.
    seen: HashMap<ShardId, (ShardRow, Duration)>,
    stolen: Vec<Duration>,
    last_pass: Duration,
    /// A neighbour is being asked for a shard.
    asking: Arc<AtomicBool>,
}

#[derive(Debug)]
pub(crate) struct HandOver {
    pub(crate) to: Arc<str>,
    pub(crate) answer: oneshot::Sender<bool>,
}

/// Two processes run under one name: this one stops.
#[derive(Debug, thiserror::Error)]
#[error("another process runs as `{0}`: give each a name of its own by MESH_EXECUTION__INSTANCE")]
pub struct Namesake(pub String);

impl Steward {
    pub(crate) async fn run(mut self) -> Result<(), Namesake> {
        let shutdown = self.stop.clone();
        while !shutdown.is_cancelled() {
            match self.pass().await {
                Ok(true) => {}
                Ok(false) => return Err(Namesake(self.instance.to_string())),
                Err(error) => {
                    // What was not seen while the database was away is nobody's silence.
                    self.memory.seen.clear();
                    tracing::warn!(%error, "the shard table cannot be read; trying again");
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                asked = self.asked.recv() => if let Some(asked) = asked { self.hand_one_over(asked).await; },
                _ = self.directory.bell.wait(TICK) => {}
            }
        }
        self.release_all().await;
        Ok(())
    }

    /// Observe, plan, apply; `false`: a namesake takes our shards.
    async fn pass(&mut self) -> Result<bool, sqlx::Error> {
        let lost = self.let_lost_go().await?;
        let rows = shards::all(&self.pool).await?;
        let now = self.context.clock.monotonic();
        if now.saturating_sub(self.memory.last_pass) > PASS_GAP_MAX {
            self.memory.seen.clear();
        }
        self.memory.last_pass = now;
        if self.notice_theft(&lost, &rows, now) {
            return Ok(false);
        }
        if !self.draining.is_cancelled() {
            let Held { held, seen, .. } = &mut self.memory;
            let wanted = plan_takeovers(&self.instance, &rows, held, seen, now);
            self.take(wanted).await?;
            self.ask_for_share(&rows);
        }
        self.publish_directory(&rows);
        Ok(true)
    }

    /// What lanes have lost, and what the beat finds gone, each with the epoch that we held.
    async fn let_lost_go(&mut self) -> Result<Vec<(ShardId, i64)>, sqlx::Error> {
        let mut lost = self.directory.take_lost();
        lost.retain(|(shard, epoch)| self.memory.held.get(shard) == Some(epoch));
        for (shard, _) in &lost {
            self.memory.held.remove(shard);
        }
        lost.extend(self.beat().await?);
        Ok(lost)
    }

    async fn beat(&mut self) -> Result<Vec<(ShardId, i64)>, sqlx::Error> {
        let held = &self.memory.held;
        if held.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<i16> = held.keys().map(|shard| shard.cast_signed()).collect();
        let epochs: Vec<i64> = held.values().copied().collect();
        let relayed: Vec<i64> = held.keys().map(|shard| self.marks.get(*shard)).collect();
        fail_point!(async "execution.beat.before");
        let ours = shards::beat(&self.pool, &self.instance, &ids, &epochs, &relayed).await?;
        let is_lost = |shard: &ShardId| !ours.contains(&shard.cast_signed());
        let lost: Vec<_> = held
            .iter()
            .map(|(shard, epoch)| (*shard, *epoch))
            .filter(|(shard, _)| is_lost(shard))
            .collect();
        for (shard, _) in &lost {
            tracing::warn!(shard, "the shard belongs to another process now");
            self.memory.held.remove(shard);
            self.directory.let_go(*shard);
            // The lane finds out by its next commit, or by this.
            drop(self.release(*shard));
        }
        Ok(lost)
    }

    /// Our name owns a shard at an epoch that we did not take.
    fn notice_theft(&mut self, lost: &[(ShardId, i64)], rows: &[ShardRow], now: Duration) -> bool {
        let is_stolen = |(shard, epoch): &(ShardId, i64)| {
            rows.iter()
                .any(|row| row.id.cast_unsigned() == *shard && *row.owner == *self.instance && row.epoch > *epoch)
        };
        let memory = &mut self.memory;
        if lost.iter().any(is_stolen) {
            memory.stolen.push(now);
        }
        memory.stolen.retain(|at| now.saturating_sub(*at) < NAMESAKE_WINDOW);
        memory.stolen.len() >= 2
    }

    /// Takes shards over, unless the database is older than what was seen of it.
    async fn take(&mut self, wanted: Vec<ShardRow>) -> Result<(), sqlx::Error> {
        if wanted.is_empty() {
            return Ok(());
        }
        let feed_id = match self.history.judge(&wanted).await? {
            Verdict::Serve(feed_id) => feed_id,
            Verdict::Unknown(reason) => {
                tracing::warn!(%reason, "shards are not taken before JOURNAL tells how far they were");
                return Ok(());
            }
            Verdict::WentBack(problem) => {
                if self.directory.refuse(Some(problem.clone())).is_none() {
                    tracing::error!(%problem, next = problem.next, "REFUSING TO SERVE");
                }
                return Ok(());
            }
        };
        self.directory.refuse(None);
        for row in wanted {
            // Misses if anything of the row changed since, also while it waited for a batch in flight.
            fail_point!(async "execution.takeover.before");
            if let Some(taken) = shards::take(&self.pool, &row, &self.instance).await? {
                self.figures.taken_over(match row.owner.as_str() {
                    "" => Takeover::Free,
                    owner if *owner == *self.instance => Takeover::Own,
                    _ => Takeover::Silent,
                });
                self.adopt(taken, &feed_id);
            }
        }
        Ok(())
    }

    fn adopt(&mut self, row: ShardRow, feed_id: &Arc<str>) {
        let shard = row.id.cast_unsigned();
        self.memory.held.insert(shard, row.epoch);
        self.memory.seen.remove(&shard);
        // The relay first: it must know where to go on before the lane commits anything. Neither is gone before us.
        let adopted = Adopted {
            shard,
            relayed: row.relayed_batch,
            batch: row.batch,
            feed_id: Arc::clone(feed_id),
        };
        let _ = self.adopted.send(adopted);
        fail_point!("execution.takeover.after");
        let _ = self.lane(shard).send(Command::Adopt(row));
    }

    fn publish_directory(&self, rows: &[ShardRow]) {
        let mut owners = vec![Owner::Nobody; usize::from(SHARDS)];
        for row in rows {
            let shard = row.id.cast_unsigned();
            let place = &mut owners[usize::from(shard)];
            if self.memory.held.contains_key(&shard) {
                *place = Owner::Here;
            } else if !row.owner.is_empty() && *row.owner != *self.instance {
                *place = Owner::There(row.owner.as_str().into());
            }
        }
        self.directory.set(owners);
    }

    fn lane(&self, shard: ShardId) -> &LaneHandle {
        &self.lanes[usize::from(shard) % self.lanes.len()]
    }
}
