//! What a lane has for a database here: the model, behind a connection that is slow, cut, and lies about outcomes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mesh_api::journal::Record;
use mesh_store::IdExt;
use mesh_types::{InvocationId, Timestamp};

use super::bugs::Bug;
use super::process::Process;
use super::world::Sim;
use crate::core::Decision;
use crate::store::ledger::{Ledger, LedgerError, Wanted};
use crate::store::load::{Known, Loaded};
use crate::store::shards::ShardRow;
use crate::store::write::Fence;

/// As that of the real one.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(12);

pub(super) struct SimLedger {
    pub(super) sim: Arc<Sim>,
    pub(super) process: Arc<Process>,
}

/// What becomes of one statement.
enum Fate {
    Done,
    /// The connection is cut before the server has read it.
    CutBefore,
    /// It commits, and nobody hears of it.
    CutAfter,
    /// The connection is cut; the server goes on and commits later.
    Later,
    Deadlock,
    /// The process dies, before or after the commit.
    KilledBefore,
    KilledAfter,
}

impl Sim {
    /// A statement on its way to the server. An error: it surely never came there.
    pub(super) async fn reach_database(&self, process: &Process) -> Result<(), LedgerError> {
        let odds = self.odds();
        if self.chance(odds.slow) {
            self.pause(20, 3_500).await;
        } else {
            self.pause(0, 4).await;
        }
        if !process.is_cut_off.load(Ordering::Relaxed) {
            return Ok(());
        }
        if self.chance(500) {
            self.pause(1, 20).await;
            return Err(LedgerError::Aborted("no connection".into()));
        }
        tokio::time::sleep(STATEMENT_DEADLINE).await;
        Err(LedgerError::Unknown("no answer in time".into()))
    }

    fn fate(&self) -> Fate {
        let odds = self.odds();
        if self.chance(odds.deadlock) {
            return Fate::Deadlock;
        }
        if self.chance(odds.killed_at_commit) {
            return if self.chance(500) {
                Fate::KilledBefore
            } else {
                Fate::KilledAfter
            };
        }
        if self.chance(odds.cut) {
            return match self.below(3) {
                0 => Fate::CutBefore,
                1 => Fate::CutAfter,
                _ => Fate::Later,
            };
        }
        Fate::Done
    }
}

impl SimLedger {
    async fn read<T>(&self, read: impl FnOnce(&Sim) -> T) -> Result<T, LedgerError> {
        self.sim.reach_database(&self.process).await?;
        if self.sim.chance(self.sim.odds().cut) {
            return Err(LedgerError::Unknown("the connection is cut".into()));
        }
        Ok(read(&self.sim))
    }

    fn apply(&self, fences: &[Fence], decisions: &[&Decision]) -> Result<Vec<i16>, LedgerError> {
        let result = {
            let mut database = self.sim.database();
            let standing = database.standing(fences);
            database.write(fences, decisions, &standing)
        };
        self.tell(fences, decisions, &result);
        result
    }

    fn tell(&self, fences: &[Fence], decisions: &[&Decision], result: &Result<Vec<i16>, LedgerError>) {
        let place =
            |fence: &Fence| (u128::from(fence.shard.cast_unsigned()) << 64) | u128::from(fence.batch.cast_unsigned());
        let number = fences.first().map_or(0, place);
        self.sim.event("commit", number, || {
            let of = |fence: &Fence| format!("{}/{}/{}", fence.shard, fence.epoch, fence.batch + 1);
            let fences: Vec<_> = fences.iter().map(of).collect();
            let told: Vec<_> = decisions.iter().map(|decision| told(decision)).collect();
            format!("{} {} {result:?}{}", self.process.name, fences.join(" "), told.concat())
        });
    }

    /// The server commits it after all, though its connection is gone.
    fn apply_later(&self, fences: &[Fence], decisions: &[&Decision]) {
        let fences = fences.to_vec();
        let decisions: Vec<Decision> = decisions.iter().copied().cloned().collect();
        let later = Self {
            sim: Arc::clone(&self.sim),
            process: Arc::clone(&self.process),
        };
        self.sim.outside.spawn(async move {
            later.sim.pause(1, 400).await;
            let decisions: Vec<&Decision> = decisions.iter().collect();
            // Whoever sent it has forgotten it.
            let _ = later.apply(&fences, &decisions);
        });
    }

    /// Planted: looks at the fence, takes its time, and writes.
    async fn unlocked(&self, fences: &[Fence], decisions: &[&Decision]) -> Result<Vec<i16>, LedgerError> {
        let standing = self.sim.database().standing(fences);
        self.sim.pause(0, 400).await;
        let result = self.sim.database().write(fences, decisions, &standing);
        self.tell(fences, decisions, &result);
        result
    }
}

impl Ledger for SimLedger {
    async fn write(
        &mut self,
        fences: &[Fence],
        decisions: &[&Decision],
        _at: Timestamp,
    ) -> Result<Vec<i16>, LedgerError> {
        self.sim.reach_database(&self.process).await?;
        if self.sim.has(Bug::UnlockedFence) {
            return self.unlocked(fences, decisions).await;
        }
        if self.sim.has(Bug::AnswerBeforeCommit) && self.sim.chance(20) {
            return Ok(fences.iter().map(|fence| fence.shard).collect());
        }
        let unknown = || LedgerError::Unknown("the connection is cut".into());
        match self.sim.fate() {
            Fate::Done => {
                let result = self.apply(fences, decisions);
                self.sim.pause(0, 2).await;
                result
            }
            Fate::Deadlock => Err(LedgerError::Aborted("deadlock detected".into())),
            Fate::CutBefore => Err(unknown()),
            Fate::CutAfter => {
                // Refused or not, nobody hears of it.
                let _ = self.apply(fences, decisions);
                self.sim.pause(0, 300).await;
                Err(unknown())
            }
            Fate::Later => {
                self.apply_later(fences, decisions);
                Err(unknown())
            }
            Fate::KilledBefore => {
                self.process.kill(&self.sim, "before a commit");
                std::future::pending().await
            }
            Fate::KilledAfter => {
                let _ = self.apply(fences, decisions);
                self.process.kill(&self.sim, "after a commit");
                std::future::pending().await
            }
        }
    }

    async fn shards(&mut self, ids: &[i16]) -> Result<Vec<ShardRow>, LedgerError> {
        self.read(|sim| {
            let database = sim.database();
            let row = |id: &i16| database.shards[usize::from(id.cast_unsigned())].clone();
            ids.iter().map(row).collect()
        })
        .await
    }

    async fn known(&mut self, wanted: &Wanted) -> Result<Vec<Known>, LedgerError> {
        let keys: Vec<_> = wanted
            .tenants
            .iter()
            .cloned()
            .zip(wanted.keys.iter().cloned())
            .collect();
        let ids: Vec<_> = wanted.ids.iter().map(|id| InvocationId::from_uuid(*id)).collect();
        self.read(|sim| sim.database().known(&keys, &ids)).await
    }

    async fn journal(&mut self, id: InvocationId, after: u32, _limit: i64) -> Result<Vec<Record>, LedgerError> {
        self.read(|sim| sim.database().journal(id, after)).await
    }

    async fn open(&mut self, shard: i16) -> Result<Loaded, LedgerError> {
        self.sim.event("load", u128::from(shard.cast_unsigned()), || {
            format!("{} {shard}", self.process.name)
        });
        self.read(|sim| sim.database().load(shard.cast_unsigned())).await
    }

    fn reset(&mut self) {}
}

/// The records of a decision, a line each.
fn told(decision: &Decision) -> String {
    let line = |record: &Record| {
        let (id, seq, epoch) = (decision.id(), record.seq, record.epoch);
        let fact = serde_json::to_string(&record.fact).unwrap_or_default();
        format!("\n             {id} {seq} of {epoch} {fact}")
    };
    let also = decision.also.as_deref().map_or_else(String::new, told);
    let letter = decision
        .mail
        .iter()
        .map(|letter| format!("\n             {} to {} {:?}", letter.id, letter.recipient, letter.body));
    decision.records.iter().map(line).chain(letter).collect::<String>() + &also
}
