//! Ownership: beats for our shards, takes over silent ones, takes and gives shares. Safety never rests on it: epochs
//! checked inside each commit do that. It only decides how soon someone else goes on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_runtime::{Context, Doorbell};
use mesh_types::Subject;
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::lane::command::{Command, LaneHandle};
use crate::relay::{Adopted, Marks};
use crate::router::Owner;
use crate::shards::{SHARDS, ShardId};
use crate::store::shards::{self, ShardRow};

const TICK: Duration = Duration::from_secs(1);
/// (epoch, batch, beat) unchanged for so long by our own clock: the owner is gone.
const SILENCE: Duration = Duration::from_secs(3);
/// Losing shards to our own name twice within this time: two processes have one name.
const NAMESAKE_WINDOW: Duration = Duration::from_secs(10);
const RELEASE_DEADLINE: Duration = Duration::from_secs(5);

/// Who owns what, for the router; re-read when something moved.
#[derive(Debug)]
pub(crate) struct Directory {
    owners: Mutex<Vec<Owner>>,
    bell: Doorbell,
}

impl Directory {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { owners: Mutex::new(vec![Owner::Nobody; usize::from(SHARDS)]), bell: Doorbell::new() })
    }

    pub(crate) fn owner(&self, shard: ShardId) -> Owner {
        self.lock().get(usize::from(shard)).cloned().unwrap_or(Owner::Nobody)
    }

    /// Something is not where it was: look again soon.
    pub(crate) fn ring(&self) {
        self.bell.ring();
    }

    /// A lane lost the shard.
    pub(crate) fn lost(&self, shard: ShardId) {
        if let Some(owner) = self.lock().get_mut(usize::from(shard)) {
            *owner = Owner::Nobody;
        }
        self.ring();
    }

    fn set(&self, owners: Vec<Owner>) {
        *self.lock() = owners;
    }


    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Owner>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Steward {
    pub(crate) context: Context,
    /// Ends it: all shards are given back then.
    pub(crate) stop: CancellationToken,
    pub(crate) pool: PgPool,
    /// The name of this process in the shard table.
    pub(crate) instance: Arc<str>,
    pub(crate) lanes: Vec<LaneHandle>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) marks: Arc<Marks>,
    pub(crate) adopted: mpsc::UnboundedSender<Adopted>,
    /// Epoch of each shard that we hold.
    pub(crate) held: HashMap<ShardId, i64>,
    /// Each foreign shard as last seen changing, and when by our own clock.
    pub(crate) seen: HashMap<ShardId, (ShardRow, Duration)>,
    pub(crate) stolen: Vec<Duration>,
    /// Shards that a namesake or a neighbour asked for: (shard, to whom).
    pub(crate) asked: mpsc::UnboundedReceiver<HandOver>,
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
                Err(error) => tracing::warn!(%error, "the shard table cannot be read; trying again"),
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
        self.beat().await?;
        let rows = shards::all(&self.pool).await?;
        let now = self.context.clock.monotonic();
        if self.notice_theft(&rows, now) {
            return Ok(false);
        }
        for row in plan_takeovers(&self.instance, &rows, &self.held, &mut self.seen, now) {
            // Misses if anything of the row changed since, also while it waited for a batch in flight.
            if let Some(taken) = shards::take(&self.pool, &row, &self.instance).await? {
                self.adopt(taken);
            }
        }
        self.publish_directory(&rows);
        self.ask_for_share(&rows).await;
        Ok(true)
    }

    async fn beat(&mut self) -> Result<(), sqlx::Error> {
        if self.held.is_empty() {
            return Ok(());
        }
        let ids: Vec<i16> = self.held.keys().map(|shard| shard.cast_signed()).collect();
        let epochs: Vec<i64> = self.held.values().copied().collect();
        let relayed: Vec<i64> = self.held.keys().map(|shard| self.marks.get(*shard)).collect();
        let ours = shards::beat(&self.pool, &self.instance, &ids, &epochs, &relayed).await?;
        let lost: Vec<ShardId> =
            self.held.keys().copied().filter(|shard| !ours.contains(&shard.cast_signed())).collect();
        for shard in lost {
            tracing::warn!(shard, "the shard belongs to another process now");
            self.held.remove(&shard);
            self.directory.lost(shard);
            let (settled, _) = oneshot::channel();
            // The lane finds out by its next commit, or by this.
            let _ = self.lane(shard).send(Command::Release { shard, settled });
        }
        Ok(())
    }

    /// Our name owns a shard at an epoch that we did not take.
    fn notice_theft(&mut self, rows: &[ShardRow], now: Duration) -> bool {
        let is_stolen = |row: &&ShardRow| {
            *row.owner == *self.instance && self.held.get(&row.id.cast_unsigned()).is_some_and(|epoch| *epoch < row.epoch)
        };
        if rows.iter().any(|row| is_stolen(&row)) {
            self.stolen.push(now);
            self.held.retain(|shard, epoch| {
                !rows.iter().any(|row| row.id.cast_unsigned() == *shard && row.epoch > *epoch)
            });
        }
        self.stolen.retain(|at| now.saturating_sub(*at) < NAMESAKE_WINDOW);
        self.stolen.len() >= 2
    }

    fn adopt(&mut self, row: ShardRow) {
        let shard = row.id.cast_unsigned();
        self.held.insert(shard, row.epoch);
        self.seen.remove(&shard);
        // The relay first: it must know where to go on before the lane commits anything.
        let _ = self.adopted.send(Adopted { shard, relayed: row.relayed_batch, batch: row.batch });
        let _ = self.lane(shard).send(Command::Adopt(row));
    }

    fn publish_directory(&self, rows: &[ShardRow]) {
        let mut owners = vec![Owner::Nobody; usize::from(SHARDS)];
        for row in rows {
            let shard = row.id.cast_unsigned();
            let place = &mut owners[usize::from(shard)];
            if self.held.contains_key(&shard) {
                *place = Owner::Here;
            } else if !row.owner.is_empty() && *row.owner != *self.instance {
                *place = Owner::There(row.owner.as_str().into());
            }
        }
        self.directory.set(owners);
    }

    /// With less than its share, asks the owner of most for one.
    async fn ask_for_share(&self, rows: &[ShardRow]) {
        let Some(from) = plan_ask(&self.instance, rows) else { return };
        let Ok(subject) = hand_over_subject(&from) else { return };
        let request = crate::bus::HandOverRequest { to: self.instance.to_string() };
        let caller = self.context.caller(mesh_types::Tenant::default());
        let asked = self.context.bus.call_at::<crate::bus::HandOverShard>(&subject, &caller, &request, RELEASE_DEADLINE);
        if let Err(problem) = asked.await {
            tracing::debug!(%problem, %from, "no shard was handed over");
        }
        self.directory.ring();
    }

    async fn hand_one_over(&mut self, asked: HandOver) {
        let shard = self.held.keys().copied().max();
        let done = match shard {
            Some(shard) => self.hand_over(shard, &asked.to).await,
            None => false,
        };
        // Whoever asked may be gone; the table tells the next reader.
        let _ = asked.answer.send(done);
    }

    /// Settles the shard, then writes the new owner under the next epoch.
    async fn hand_over(&mut self, shard: ShardId, to: &str) -> bool {
        let Some(epoch) = self.held.remove(&shard) else { return false };
        self.directory.lost(shard);
        let (settled, settles) = oneshot::channel();
        if self.lane(shard).send(Command::Release { shard, settled }).is_err() {
            return false;
        }
        if tokio::time::timeout(RELEASE_DEADLINE, settles).await.is_err() {
            tracing::warn!(shard, "the lane has not settled in time; whoever follows fences it out");
        }
        match shards::hand_over(&self.pool, shard.cast_signed(), epoch, to).await {
            Ok(done) => done,
            Err(error) => {
                tracing::warn!(%error, shard, "the shard is not handed over; it will be taken over");
                false
            }
        }
    }

    async fn release_all(&mut self) {
        let shards: Vec<ShardId> = self.held.keys().copied().collect();
        for shard in shards {
            self.hand_over(shard, "").await;
        }
    }

    fn lane(&self, shard: ShardId) -> &LaneHandle {
        &self.lanes[usize::from(shard) % self.lanes.len()]
    }
}

pub(crate) fn hand_over_subject(instance: &str) -> Result<Subject, mesh_types::NameError> {
    Ok(Subject::Execution { instance: instance.parse()?, command: "hand-over".parse()? })
}

/// Shards to take now: free ones, those of an earlier start of our own name, and silent ones. Pure but for `seen`.
fn plan_takeovers(
    instance: &str,
    rows: &[ShardRow],
    held: &HashMap<ShardId, i64>,
    seen: &mut HashMap<ShardId, (ShardRow, Duration)>,
    now: Duration,
) -> Vec<ShardRow> {
    rows.iter()
        .filter(|row| !held.contains_key(&row.id.cast_unsigned()))
        .filter(|row| {
            if row.owner.is_empty() || row.owner == instance {
                return true;
            }
            let (last, since) = seen.entry(row.id.cast_unsigned()).or_insert_with(|| ((*row).clone(), now));
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
    let (most, count) = counts.iter().max_by_key(|(name, count)| (**count, **name))?;
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
        assert_eq!(ids(plan_takeovers("me", &table, &HashMap::new(), &mut seen, at(0))), [0, 1]);
        table[3].beat += 1;
        assert_eq!(ids(plan_takeovers("me", &table, &HashMap::new(), &mut seen, at(2))), [0, 1]);
        assert_eq!(ids(plan_takeovers("me", &table, &HashMap::new(), &mut seen, at(3))), [0, 1, 2]);
        let held = HashMap::from([(0, 2), (1, 2), (2, 2)]);
        assert_eq!(ids(plan_takeovers("me", &table, &held, &mut seen, at(5))), [3], "it fell silent at 2");
    }

    #[test]
    fn shares_even_out_and_then_rest() {
        assert_eq!(plan_ask("b", &rows(&["a", "a", "a", "a"])), Some("a".into()));
        assert_eq!(plan_ask("b", &rows(&["a", "a", "b", "b"])), None);
        assert_eq!(plan_ask("c", &rows(&["a", "a", "b", "b"])), Some("b".into()));
        assert_eq!(plan_ask("a", &rows(&["a", "a", "a", "a"])), None);
    }
}
