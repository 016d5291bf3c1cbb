//! A lane: one Postgres connection with its queue, and the only writer of its shards. Each turn takes what waits,
//! decides purely, commits it in one fenced statement, and only then changes memory, answers and starts workers.
//! One batch is in flight at a time, so nothing of an invocation is ever in two unresolved batches.

mod accepts;
mod adopt;
mod appends;
mod apply;
mod claims;
pub(crate) mod command;
mod demand;
pub(crate) mod memory;
mod news;
mod plan;
pub(crate) mod queues;
#[cfg(test)]
pub(crate) mod seen;
mod steer;
#[cfg(test)]
mod tests;
mod write;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::core::Holder;
use crate::core::mail::ReadLetter;
use crate::core::pauses::Pauses;
use crate::figures::{Figures, Loss};
use crate::hosted::Slots;
use crate::lane::claims::{Asked, NodeSeen};
use crate::lane::command::{Accept, Append, Claim, Command, LaneHandle, Start, Steer, moved};
use crate::lane::memory::{Memory, Owned};
use crate::relay::Outbox;
use crate::shards::ShardId;
use crate::store::ledger::Ledger;
use crate::store::shards::ShardRow;

/// What is paused, as far as it was read.
#[derive(Debug)]
pub(crate) struct SharedPauses {
    /// `None`: nobody has read them yet, and nothing may start.
    now: std::sync::RwLock<Option<Pauses>>,
    /// Held while they are read and set: what was read first is never believed last.
    pub(crate) reading: tokio::sync::Mutex<()>,
}

impl Default for SharedPauses {
    /// Nothing is paused.
    fn default() -> Self {
        Self {
            now: std::sync::RwLock::new(Some(Pauses::default())),
            ..Self::unread()
        }
    }
}

impl SharedPauses {
    /// Of a process that starts: what is paused must not run before it has read that.
    pub(crate) fn unread() -> Self {
        Self {
            now: std::sync::RwLock::default(),
            reading: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn holds(&self, tenant: &mesh_types::Tenant, agent: &mesh_types::AgentName) -> bool {
        let now = self.now.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        now.as_ref().is_none_or(|pauses| pauses.holds(tenant, agent))
    }

    /// Whether something changed.
    pub(crate) fn set(&self, pauses: Pauses) -> bool {
        let mut now = self.now.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let changed = now.as_ref() != Some(&pauses);
        *now = Some(pauses);
        changed
    }
}

/// What a lane needs of the process around it.
pub(crate) struct LaneContext {
    pub(crate) clock: Arc<dyn mesh_types::Clock>,
    /// This process as a hosted worker.
    pub(crate) holder: Holder,
    pub(crate) slots: Arc<Slots>,
    /// Starts a hosted worker; must not block.
    pub(crate) start: Box<dyn Fn(Start) + Send + Sync>,
    /// Committed batches; full means the relay reads the feed instead.
    pub(crate) relay: Outbox,
    /// A shard, held in that epoch, turned out not to be ours, or was given back.
    pub(crate) lost: Box<dyn Fn(ShardId, i64) + Send + Sync>,
    /// There is mail for a shard; must not block.
    pub(crate) posted: Box<dyn Fn(ShardId) + Send + Sync>,
    /// Lease of what nodes hold.
    pub(crate) node_lease: Duration,
    /// Agents, tenants, everything that is paused now.
    pub(crate) pauses: Arc<SharedPauses>,
    pub(crate) figures: Arc<Figures>,
    /// Highest batch relayed, by shard, and committed.
    pub(crate) relayed: Arc<crate::relay::Marks>,
    /// Set while the process drains: nothing new is claimed.
    pub(crate) draining: CancellationToken,
    /// Ends the lane.
    pub(crate) stop: CancellationToken,
    /// Test hook: abort the process once a record of this seq is committed (0: never).
    pub(crate) abort_after_seq: u32,
}

pub(crate) struct Lane<L> {
    context: LaneContext,
    handle: LaneHandle,
    commands: mpsc::UnboundedReceiver<Command>,
    ledger: L,
    shards: BTreeMap<ShardId, Owned>,
    memory: Memory,
    appends: VecDeque<Append>,
    steering: VecDeque<Box<Steer>>,
    claims: Vec<Claim>,
    /// Claims that the batch in flight answers.
    asked: Vec<Asked>,
    nodes: HashMap<Arc<str>, NodeSeen>,
    accepts: VecDeque<Box<Accept>>,
    /// Taken over, not loaded yet.
    adopting: Vec<ShardRow>,
}

/// Once for the workers of this thread, once for those that another thread took over.
const YIELDS: u32 = 2;
/// Pause between two tries to load a shard.
const ADOPT_RETRY: Duration = Duration::from_millis(200);

impl<L: Ledger> Lane<L> {
    pub(crate) fn new(
        context: LaneContext,
        ledger: L,
        handle: LaneHandle,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        Self {
            context,
            handle,
            commands,
            ledger,
            shards: BTreeMap::new(),
            memory: Memory::default(),
            appends: VecDeque::new(),
            steering: VecDeque::new(),
            claims: Vec::new(),
            asked: Vec::new(),
            nodes: HashMap::new(),
            accepts: VecDeque::new(),
            adopting: Vec::new(),
        }
    }

    pub(crate) async fn run(mut self) {
        while self.wait().await {
            self.drain_queue().await;
            self.adopt_pending().await;
            let planned = self.plan().await;
            if planned.is_empty() {
                self.answer_claims();
            } else {
                self.commit(planned).await;
                self.answer_claims();
                // Who was just answered goes first: its next step joins this lane's next batch instead of the one
                // after it. No time is waited; with nobody to run it comes back at once.
                for _ in 0..YIELDS {
                    tokio::task::yield_now().await;
                }
            }
            self.publish_gauges();
        }
    }

    /// Until there is something to do; `false` at the end.
    async fn wait(&mut self) -> bool {
        if self.context.stop.is_cancelled() {
            return false;
        }
        let has_commands = !self.appends.is_empty()
            || !self.accepts.is_empty()
            || !self.steering.is_empty()
            || !self.claims.is_empty();
        // What became runnable by the last commit is claimed now: nobody else would ring.
        if has_commands || self.memory.is_hungry {
            return true;
        }
        let now = self.context.clock.now();
        let timer = self.memory.next_timer().map(|at| at.since(now));
        let pause = match (timer, self.adopting.is_empty()) {
            (Some(timer), true) => timer,
            (Some(timer), false) => timer.min(ADOPT_RETRY),
            (None, false) => ADOPT_RETRY,
            (None, true) => Duration::from_secs(3_600),
        };
        tokio::select! {
            biased;
            () = self.context.stop.cancelled() => false,
            command = self.commands.recv() => match command {
                Some(command) => { self.take(command).await; true }
                None => false,
            },
            () = tokio::time::sleep(pause) => true,
        }
    }

    async fn drain_queue(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.take(command).await;
        }
    }

    async fn take(&mut self, command: Command) {
        match command {
            Command::Append(append) => self.appends.push_back(append),
            Command::Accept(accept) => {
                if self.owns(accept.meta.shard, accept.letter) {
                    self.accepts.push_back(accept);
                } else {
                    // Nobody may have listened any more; then nobody minds.
                    let _ = accept.answer.send(Err(moved()));
                }
            }
            Command::Steer(steer) => self.steering.push_back(steer),
            Command::Claim(claim) => self.claims.push(claim),
            Command::Alive(alive) => self.alive(alive),
            Command::NodeLost(lost) => self.node_lost(&lost),
            Command::WhoWaits(answer) => {
                // Who asked may be gone.
                let _ = answer.send(self.memory.placed.agents());
            }
            Command::Demand(answer) => {
                let _ = answer.send(self.demand());
            }
            Command::Queues(answer) => {
                let _ = answer.send(self.queues());
            }
            Command::Await { id, waiter } => self.memory.wait_for(id, waiter),
            Command::HolderGone { id, epoch } => self.holder_gone(id, epoch, Loss::Worker),
            Command::Adopt(row) => self.adopting.push(row),
            Command::Release { shard, settled } => self.release(shard, settled).await,
            Command::Ring => {}
            #[cfg(test)]
            Command::Look(look) => self.show(&look),
        }
    }

    /// Whether the shard is ours, and was when the letter that asks was read.
    fn owns(&self, shard: ShardId, letter: Option<ReadLetter>) -> bool {
        let is_of = |owned: &Owned| letter.is_none_or(|letter| letter.epoch == owned.epoch);
        self.shards.get(&shard).is_some_and(is_of)
    }

    /// Settles what waits, then forgets the shard.
    async fn release(&mut self, shard: ShardId, settled: tokio::sync::oneshot::Sender<Option<i64>>) {
        let planned = self.plan().await;
        if !planned.is_empty() {
            self.commit(planned).await;
        }
        self.answer_claims();
        // What still runs is given back, so that its next owner counts no loss.
        let released = self.release_running(shard, self.context.clock.now());
        if !released.is_empty() {
            self.commit(released).await;
        }
        let batch = self.shards.get(&shard).map(|owned| owned.batch);
        // Not even loaded yet: it will not be.
        self.adopting.retain(|row| row.id.cast_unsigned() != shard);
        self.forget(shard);
        // The steward may have given up waiting; the shard is forgotten all the same.
        let _ = settled.send(batch);
    }

    /// Drops all memory of a shard: its workers are told to stop, its callers that it moved.
    fn forget(&mut self, shard: ShardId) {
        let owned = self.shards.remove(&shard);
        self.memory.forget(shard);
        let (gone, kept) = std::mem::take(&mut self.accepts)
            .into_iter()
            .partition(|accept| accept.meta.shard == shard);
        self.accepts = kept;
        let gone: VecDeque<Box<Accept>> = gone;
        for accept in gone {
            let _ = accept.answer.send(Err(moved()));
        }
        if let Some(owned) = owned {
            (self.context.lost)(shard, owned.epoch);
        }
    }

    /// Its worker is gone without its end, if it runs under that epoch.
    fn holder_gone(&mut self, id: mesh_types::InvocationId, epoch: u32, loss: Loss) {
        if self.memory.holder_gone(id, epoch, self.context.clock.now()) {
            self.context.figures.lost(loss, 1);
        }
    }

    fn publish_gauges(&self) {
        let gauges = &self.handle.gauges;
        gauges.open.store(self.memory.open.len(), Ordering::Relaxed);
        gauges.ready.store(self.memory.ready.len(), Ordering::Relaxed);
        let others = self.commands.len() + self.appends.len() + self.steering.len() + self.claims.len();
        gauges.others.store(others, Ordering::Relaxed);
        for (gauge, count) in gauges.states.iter().zip(self.memory.states) {
            gauge.store(count, Ordering::Relaxed);
        }
        let placed = self.memory.placed.len();
        if gauges.placed.swap(placed, Ordering::Relaxed) < placed {
            gauges.nodes.bell.ring();
        }
    }
}
