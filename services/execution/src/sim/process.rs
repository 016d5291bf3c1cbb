//! One simulated execution process: real lanes over the model of Postgres, with what `parts` wires around them.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_runtime::Doorbell;
use mesh_types::Clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::clock::SimClock;
use super::group::Group;
use super::ledger::SimLedger;
use super::world::Sim;
use super::{hosted, inbox, postman, steward};
use crate::core::Holder;
use crate::directory::Directory;
use crate::figures::Figures;
use crate::hosted::Slots;
use crate::lane::command::{LaneHandle, NODE_LEASE};
use crate::lane::{Lane, LaneContext, SharedPauses};
use crate::relay::{Committed, Marks, Outbox};
use crate::shards::ShardId;
use crate::steward::HandOver;

const LANES: usize = 2;

pub(super) struct Process {
    pub(super) name: Arc<str>,
    pub(super) incarnation: u64,
    pub(super) group: Arc<Group>,
    pub(super) clock: Arc<SimClock>,
    pub(super) lanes: Vec<LaneHandle>,
    pub(super) directory: Arc<Directory>,
    pub(super) pauses: Arc<SharedPauses>,
    /// Rings the postman.
    pub(super) mail: Doorbell,
    posted: Mutex<BTreeSet<ShardId>>,
    pub(super) hand_overs: mpsc::UnboundedSender<HandOver>,
    pub(super) draining: CancellationToken,
    /// The steward gives all shards back.
    pub(super) stop: CancellationToken,
    /// It does not reach the database.
    pub(super) is_cut_off: AtomicBool,
}

/// Starts, or starts again under the same name.
pub(super) fn start(sim: &Arc<Sim>, name: &str) -> Arc<Process> {
    let (handles, receivers): (Vec<_>, Vec<_>) = (0..LANES).map(|_| LaneHandle::new()).unzip();
    let (outbox, committed, _queued) = Outbox::new();
    let (hand_overs, asked) = mpsc::unbounded_channel();
    let slots = Slots::new(u32::try_from(4 + sim.below(60)).unwrap_or(8));
    slots.ring_lanes(handles.iter().map(|lane| lane.commands.clone()).collect());
    let offset = i64::try_from(sim.below(2_000_000)).unwrap_or(0) - 1_000_000;
    let process = Arc::new(Process {
        name: name.into(),
        incarnation: sim.next_incarnation(),
        group: Group::new(),
        clock: SimClock::new(sim.started, offset),
        lanes: handles,
        directory: Directory::new(),
        pauses: Arc::default(),
        mail: Doorbell::new(),
        posted: Mutex::default(),
        hand_overs,
        draining: CancellationToken::new(),
        stop: CancellationToken::new(),
        is_cut_off: AtomicBool::new(false),
    });
    sim.event("start", u128::from(process.incarnation), || name.to_owned());
    sim.processes().insert(Arc::clone(&process.name), Arc::clone(&process));
    for (receiver, handle) in receivers.into_iter().zip(&process.lanes) {
        let ledger = SimLedger {
            sim: Arc::clone(sim),
            process: Arc::clone(&process),
        };
        let context = lane_context(sim, &process, &slots, &outbox);
        process
            .group
            .spawn(Lane::new(context, ledger, handle.clone(), receiver).run());
    }
    let group = &process.group;
    group.spawn(steward::run(Arc::clone(sim), Arc::clone(&process), asked));
    group.spawn(postman::run(Arc::clone(sim), Arc::clone(&process)));
    group.spawn(inbox::run(Arc::clone(sim), Arc::clone(&process)));
    group.spawn(relay(Arc::clone(sim), committed));
    process
}

fn lane_context(sim: &Arc<Sim>, process: &Arc<Process>, slots: &Arc<Slots>, outbox: &Outbox) -> LaneContext {
    let (hosted_sim, hosted_process) = (Arc::clone(sim), Arc::clone(process));
    let (directory, post) = (Arc::clone(&process.directory), Arc::clone(process));
    LaneContext {
        clock: Arc::clone(&process.clock) as Arc<dyn Clock>,
        holder: Holder {
            node: Arc::clone(&process.name),
            incarnation: process.incarnation,
        },
        slots: Arc::clone(slots),
        start: Box::new(move |start| hosted::start(&hosted_sim, &hosted_process, start)),
        relay: outbox.clone(),
        lost: Box::new(move |shard, epoch| directory.lost(shard, epoch)),
        posted: Box::new(move |shard| post.posted(shard)),
        node_lease: NODE_LEASE,
        pauses: Arc::clone(&process.pauses),
        figures: Figures::unseen(),
        relayed: Arc::new(Marks::default()),
        draining: process.draining.clone(),
        stop: CancellationToken::new(),
        abort_after_seq: 0,
    }
}

/// What a lane tells the relay is committed, in full.
async fn relay(sim: Arc<Sim>, mut committed: mpsc::Receiver<Committed>) {
    while let Some(batch) = committed.recv().await {
        let mut told: Vec<_> = Vec::new();
        for invocation in &batch.invocations {
            told.extend(invocation.records.iter().map(|record| (invocation.meta.id, record.seq)));
        }
        let stored = sim.database().feed.get(&(batch.shard, batch.batch)).cloned();
        if stored.as_ref() != Some(&told) {
            let (shard, batch) = (batch.shard, batch.batch);
            sim.violation(format!(
                "shard {shard}, batch {batch}: the relay hears {told:?}, committed is {stored:?}"
            ));
        }
    }
}

impl Process {
    pub(super) fn lane(&self, shard: ShardId) -> &LaneHandle {
        &self.lanes[usize::from(shard) % self.lanes.len()]
    }

    pub(super) fn posted(&self, shard: ShardId) {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner).insert(shard);
        self.mail.ring();
    }

    pub(super) fn take_posted(&self) -> BTreeSet<ShardId> {
        std::mem::take(&mut *self.posted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn kill(&self, sim: &Sim, why: &str) {
        if !self.group.is_dead() {
            sim.event("kill", u128::from(self.incarnation), || format!("{} {why}", self.name));
            self.group.kill();
        }
    }
}
