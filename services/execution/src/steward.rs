//! Ownership: beats for our shards, takes over silent ones, takes and gives shares. Safety never rests on it: epochs
//! checked inside each commit do that. It only decides how soon someone else goes on.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use mesh_runtime::Context;
use mesh_types::Subject;
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::directory::{Directory, Owner};
use crate::history::{History, Verdict};
use crate::lane::command::{Command, LaneHandle};
use crate::relay::{Adopted, Marks};
use crate::shards::{SHARDS, ShardId};
use crate::store::shards::{self, ShardRow};

const TICK: Duration = Duration::from_secs(1);
/// (epoch, batch, beat) unchanged for so long by our own clock: the owner is gone.
const SILENCE: Duration = Duration::from_secs(3);
/// A longer pause between two passes, or one that failed, is our own silence and says nothing of others.
const PASS_GAP_MAX: Duration = Duration::from_secs(2);
/// Losing shards to our own name twice within this time: two processes have one name.
const NAMESAKE_WINDOW: Duration = Duration::from_secs(10);
const RELEASE_DEADLINE: Duration = Duration::from_secs(5);
/// What a settled shard waits for its relay, so that the next owner repeats little.
const RELAY_WAIT: Duration = Duration::from_millis(500);
const RELAY_POLL: Duration = Duration::from_millis(5);

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
            rows.iter().any(|row| {
                row.id.cast_unsigned() == *shard
                    && *row.owner == *self.instance
                    && row.epoch > *epoch
            })
        };
        let memory = &mut self.memory;
        if lost.iter().any(is_stolen) {
            memory.stolen.push(now);
        }
        memory
            .stolen
            .retain(|at| now.saturating_sub(*at) < NAMESAKE_WINDOW);
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
            if let Some(taken) = shards::take(&self.pool, &row, &self.instance).await? {
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

    /// With less than its share, asks the owner of most for one; in a task, as our beats must not wait for it.
    fn ask_for_share(&self, rows: &[ShardRow]) {
        let Some(from) = plan_ask(&self.instance, rows) else {
            return;
        };
        let Ok(subject) = hand_over_subject(&from) else {
            return;
        };
        let asking = Arc::clone(&self.memory.asking);
        if asking.swap(true, Ordering::AcqRel) {
            return;
        }
        let (context, directory) = (self.context.clone(), Arc::clone(&self.directory));
        let request = crate::bus::HandOverRequest {
            to: self.instance.to_string(),
        };
        self.context.tasks.spawn("ask", async move {
            let caller = context.caller(mesh_types::Tenant::default());
            let asked = context.bus.call_at::<crate::bus::HandOverShard>(
                &subject,
                &caller,
                &request,
                RELEASE_DEADLINE,
            );
            let answered = asked.await;
            asking.store(false, Ordering::Release);
            match answered {
                Ok(reply) if reply.done => directory.ring(),
                Ok(_) => {}
                Err(problem) => tracing::debug!(%problem, %from, "no shard was handed over"),
            }
        });
    }

    async fn hand_one_over(&mut self, asked: HandOver) {
        let done = match self.memory.held.keys().copied().max() {
            Some(shard) => self.hand_over(vec![shard], &asked.to).await,
            None => false,
        };
        // Whoever asked may be gone; the table tells the next reader.
        let _ = asked.answer.send(done);
    }

    async fn release_all(&mut self) {
        let shards: Vec<ShardId> = self.memory.held.keys().copied().collect();
        if !shards.is_empty() {
            self.hand_over(shards, "").await;
        }
    }

    /// Settles the shards, then writes the new owner under the next epoch. The other shards keep beating meanwhile.
    async fn hand_over(&mut self, mut shards: Vec<ShardId>, to: &str) -> bool {
        shards.sort_unstable();
        let mut epochs = Vec::with_capacity(shards.len());
        let mut settling = Vec::with_capacity(shards.len());
        for shard in &shards {
            epochs.push(self.memory.held.remove(shard).unwrap_or_default());
            self.directory.let_go(*shard);
            settling.push(self.release(*shard));
        }
        let ids: Vec<i16> = shards.iter().map(|shard| shard.cast_signed()).collect();
        let marks = Arc::clone(&self.marks);
        let settled = async move {
            let batches = join_all(settling).await;
            let relayed = async {
                for (shard, batch) in shards.iter().zip(&batches) {
                    let Ok(Some(batch)) = batch else { continue };
                    while marks.get(*shard) < *batch {
                        tokio::time::sleep(RELAY_POLL).await;
                    }
                }
            };
            // What is not relayed by then, the next owner relays.
            let _ = tokio::time::timeout(RELAY_WAIT, relayed).await;
            shards
                .iter()
                .map(|shard| marks.get(*shard))
                .collect::<Vec<i64>>()
        };
        let Some(relayed) = self.beating(settled).await else {
            tracing::warn!(
                ?ids,
                "the lanes have not settled in time; whoever follows fences them out"
            );
            return false;
        };
        match shards::hand_over(&self.pool, &ids, &epochs, &relayed, to).await {
            Ok(done) => done.len() == ids.len(),
            Err(error) => {
                tracing::warn!(%error, ?ids, "shards are not handed over; they will be taken over");
                false
            }
        }
    }

    /// Waits for at most [`RELEASE_DEADLINE`], and goes on beating.
    async fn beating<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let until = Instant::now() + RELEASE_DEADLINE;
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                () = tokio::time::sleep_until(until) => return None,
                () = tokio::time::sleep(TICK) => {}
            }
            if let Err(error) = self.beat().await {
                tracing::warn!(%error, "the beat is late");
            }
        }
    }

    /// Tells the lane to settle and forget; answers the last committed batch, or `None` if the lane does not hold it.
    fn release(&self, shard: ShardId) -> oneshot::Receiver<Option<i64>> {
        let (settled, settles) = oneshot::channel();
        // Without its lane nothing is to be settled: the receiver hears that.
        let _ = self.lane(shard).send(Command::Release { shard, settled });
        settles
    }

    fn lane(&self, shard: ShardId) -> &LaneHandle {
        &self.lanes[usize::from(shard) % self.lanes.len()]
    }
}

pub(crate) fn hand_over_subject(instance: &str) -> Result<Subject, mesh_types::NameError> {
    Ok(Subject::Execution {
        instance: instance.parse()?,
        command: "hand-over".parse()?,
    })
}

/// Shards to take now: free ones, those of an earlier start of our own name, and silent ones. Pure but for `seen`.
fn plan_takeovers(
    instance: &str,
    rows: &[ShardRow],
    held: &BTreeMap<ShardId, i64>,
    seen: &mut HashMap<ShardId, (ShardRow, Duration)>,
    now: Duration,
) -> Vec<ShardRow> {
    rows.iter()
        .filter(|row| !held.contains_key(&row.id.cast_unsigned()))
        .filter(|row| {
            if row.owner.is_empty() || row.owner == instance {
                return true;
            }
            let (last, since) = seen
                .entry(row.id.cast_unsigned())
                .or_insert_with(|| ((*row).clone(), now));
            if (last.epoch, last.batch, last.beat) != (row.epoch, row.batch, row.beat) {
                (*last, *since) = ((*row).clone(), now);
            }
            now.saturating_sub(*since) >= SILENCE
        })
        .cloned()
        .collect()
}

/// Whom to ask for a shard, if we hold less than our share.
fn plan_ask(instance: &str, rows: &[ShardRow]) -> Option<String> {
    let mut counts: HashMap<&str, usize> = HashMap::from([(instance, 0)]);
    for row in rows.iter().filter(|row| !row.owner.is_empty()) {
        *counts.entry(row.owner.as_str()).or_default() += 1;
    }
    let share = rows.len() / counts.len();
    let (most, count) = counts
        .iter()
        .max_by_key(|(name, count)| (**count, **name))?;
    (counts[instance] < share && *count > share && *most != instance).then(|| (*most).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(owners: &[&str]) -> Vec<ShardRow> {
        owners
            .iter()
            .enumerate()
            .map(|(id, owner)| ShardRow {
                id: i16::try_from(id).unwrap(),
                owner: (*owner).to_owned(),
                epoch: 1,
                batch: 1,
                beat: 1,
                relayed_batch: 0,
            })
            .collect()
    }

    #[test]
    fn a_silent_owner_is_taken_over_and_a_beating_one_is_not() {
        let mut seen = HashMap::new();
        let mut table = rows(&["", "me", "dead", "alive"]);
        let at = Duration::from_secs;
        let ids = |rows: Vec<ShardRow>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(
            ids(plan_takeovers(
                "me",
                &table,
                &BTreeMap::new(),
                &mut seen,
                at(0)
            )),
            [0, 1]
        );
        table[3].beat += 1;
        assert_eq!(
            ids(plan_takeovers(
                "me",
                &table,
                &BTreeMap::new(),
                &mut seen,
                at(2)
            )),
            [0, 1]
        );
        assert_eq!(
            ids(plan_takeovers(
                "me",
                &table,
                &BTreeMap::new(),
                &mut seen,
                at(3)
            )),
            [0, 1, 2]
        );
        let held = BTreeMap::from([(0, 2), (1, 2), (2, 2)]);
        assert_eq!(
            ids(plan_takeovers("me", &table, &held, &mut seen, at(5))),
            [3],
            "it fell silent at 2"
        );
    }

    #[test]
    fn shares_even_out_and_then_rest() {
        assert_eq!(
            plan_ask("b", &rows(&["a", "a", "a", "a"])),
            Some("a".into())
        );
        assert_eq!(plan_ask("b", &rows(&["a", "a", "b", "b"])), None);
        assert_eq!(
            plan_ask("c", &rows(&["a", "a", "b", "b"])),
            Some("b".into())
        );
        assert_eq!(plan_ask("a", &rows(&["a", "a", "a", "a"])), None);
    }
}
