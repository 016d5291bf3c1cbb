//! The steward's rules over the model of Postgres, with its real plans: beats, takeovers, shares handed over.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use mesh_types::Clock;
use tokio::sync::{mpsc, oneshot};

use super::process::Process;
use super::world::Sim;
use crate::directory::Owner;
use crate::lane::command::Command;
use crate::shards::{SHARDS, ShardId};
use crate::steward::HandOver;
use crate::steward::plan::{plan_ask, plan_takeovers};
use crate::store::ledger::LedgerError;
use crate::store::shards::ShardRow;

const TICK: Duration = Duration::from_secs(1);
const PASS_GAP_MAX: Duration = Duration::from_secs(2);
const RELEASE_DEADLINE: Duration = Duration::from_secs(5);

struct Steward {
    sim: Arc<Sim>,
    process: Arc<Process>,
    held: BTreeMap<ShardId, i64>,
    seen: HashMap<ShardId, (ShardRow, Duration)>,
    last_pass: Duration,
    is_asking: Arc<AtomicBool>,
}

pub(super) async fn run(sim: Arc<Sim>, process: Arc<Process>, mut asked: mpsc::UnboundedReceiver<HandOver>) {
    let mut steward = Steward {
        sim,
        process: Arc::clone(&process),
        held: BTreeMap::new(),
        seen: HashMap::new(),
        last_pass: Duration::ZERO,
        is_asking: Arc::default(),
    };
    while !process.stop.is_cancelled() {
        if steward.pass().await.is_err() {
            steward.seen.clear();
        }
        tokio::select! {
            biased;
            () = process.stop.cancelled() => {}
            asked = asked.recv() => if let Some(asked) = asked { steward.hand_one_over(asked).await; },
            _ = process.directory.bell.wait(TICK) => {}
        }
    }
    let all: Vec<ShardId> = steward.held.keys().copied().collect();
    if !all.is_empty() {
        steward.hand_over(all, "").await;
    }
}

impl Steward {
    async fn reach(&self) -> Result<(), LedgerError> {
        self.sim.reach_database(&self.process).await
    }

    /// The answer of a statement that has been done.
    fn heard(&self) -> Result<(), LedgerError> {
        if self.sim.chance(self.sim.odds().cut) {
            return Err(LedgerError::Unknown("the connection is cut".into()));
        }
        Ok(())
    }

    async fn pass(&mut self) -> Result<(), LedgerError> {
        for (shard, epoch) in self.process.directory.take_lost() {
            if self.held.get(&shard) == Some(&epoch) {
                self.held.remove(&shard);
            }
        }
        self.beat().await?;
        self.reach().await?;
        let rows = self.sim.database().shards.clone();
        self.heard()?;
        let now = self.process.clock.monotonic();
        if now.saturating_sub(self.last_pass) > PASS_GAP_MAX {
            self.seen.clear();
        }
        self.last_pass = now;
        if !self.process.draining.is_cancelled() {
            let wanted = plan_takeovers(&self.process.name, &rows, &self.held, &mut self.seen, now);
            for row in wanted {
                self.reach().await?;
                let taken = self.sim.database().take(&row, &self.process.name);
                self.heard()?;
                if let Some(taken) = taken {
                    self.adopt(taken);
                }
            }
            self.ask_for_share(&rows);
        }
        self.publish(&rows);
        Ok(())
    }

    fn adopt(&mut self, row: ShardRow) {
        let shard = row.id.cast_unsigned();
        let (name, epoch) = (Arc::clone(&self.process.name), row.epoch);
        self.sim
            .event("take", u128::from(shard), || format!("{name} {shard}/{epoch}"));
        self.held.insert(shard, row.epoch);
        self.seen.remove(&shard);
        let _ = self.process.lane(shard).send(Command::Adopt(row));
    }

    async fn beat(&mut self) -> Result<(), LedgerError> {
        if self.held.is_empty() {
            return Ok(());
        }
        self.reach().await?;
        let ours = self.sim.database().beat(&self.process.name, &self.held);
        self.heard()?;
        let lost: Vec<ShardId> = self
            .held
            .keys()
            .copied()
            .filter(|shard| !ours.contains(shard))
            .collect();
        for shard in lost {
            self.held.remove(&shard);
            self.process.directory.let_go(shard);
            drop(self.release(shard));
        }
        Ok(())
    }

    fn release(&self, shard: ShardId) -> oneshot::Receiver<Option<i64>> {
        let (settled, settles) = oneshot::channel();
        let _ = self.process.lane(shard).send(Command::Release { shard, settled });
        settles
    }

    async fn hand_one_over(&mut self, asked: HandOver) {
        let done = match self.held.keys().copied().max() {
            Some(shard) => self.hand_over(vec![shard], &asked.to).await,
            None => false,
        };
        let _ = asked.answer.send(done);
    }

    async fn hand_over(&mut self, shards: Vec<ShardId>, to: &str) -> bool {
        let mut given = Vec::with_capacity(shards.len());
        let mut settling = Vec::with_capacity(shards.len());
        for shard in shards {
            given.push((shard, self.held.remove(&shard).unwrap_or_default()));
            self.process.directory.let_go(shard);
            settling.push(self.release(shard));
        }
        let settled = tokio::time::timeout(RELEASE_DEADLINE, join_all(settling)).await;
        if settled.is_err() || self.reach().await.is_err() {
            return false;
        }
        let number = given.len() as u128;
        self.sim.event("hand-over", number, || {
            format!("{} {given:?} to {to:?}", self.process.name)
        });
        self.sim.database().hand_over(&given, to)
    }

    fn ask_for_share(&self, rows: &[ShardRow]) {
        let Some(from) = plan_ask(&self.process.name, rows) else {
            return;
        };
        if self.is_asking.swap(true, Ordering::Relaxed) {
            return;
        }
        let (sim, process, is_asking) = (
            Arc::clone(&self.sim),
            Arc::clone(&self.process),
            Arc::clone(&self.is_asking),
        );
        self.process.group.spawn(async move {
            let is_given = ask(&sim, &process, &from).await;
            is_asking.store(false, Ordering::Relaxed);
            if is_given {
                process.directory.ring();
            }
        });
    }

    fn publish(&self, rows: &[ShardRow]) {
        let mut owners = vec![Owner::Nobody; usize::from(SHARDS)];
        for row in rows {
            let shard = row.id.cast_unsigned();
            let place = &mut owners[usize::from(shard)];
            if self.held.contains_key(&shard) {
                *place = Owner::Here;
            } else if !row.owner.is_empty() && *row.owner != *self.process.name {
                *place = Owner::There(row.owner.as_str().into());
            }
        }
        self.process.directory.set(owners);
    }
}

async fn ask(sim: &Sim, process: &Process, from: &str) -> bool {
    let reached = sim.hop().await;
    let Some(other) = sim.process(from).filter(|_| reached) else {
        return false;
    };
    let (answer, answered) = oneshot::channel();
    let to = Arc::clone(&process.name);
    let _ = other.hand_overs.send(HandOver { to, answer });
    matches!(tokio::time::timeout(RELEASE_DEADLINE, answered).await, Ok(Ok(true)))
}
