//! What a lane is asked to do, and how it answers.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mesh_api::execution::{AgentDemand, Invocation};
use mesh_api::journal::{About, Fact, Record};
use mesh_api::steering;
use mesh_runtime::Doorbell;
use mesh_types::agent::AgentSpec;
use mesh_types::{AgentName, Code, InvocationId, Problem, Tenant, Timestamp};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::core::append::AppendThen;
use crate::core::mail::ReadLetter;
use crate::core::{Holder, Meta};
use crate::lane::queues::Queue;
use crate::shards::ShardId;
use crate::store::shards::ShardRow;

/// Told once when an invocation has ended; dropped when its shard is lost.
pub(crate) type Waiter = oneshot::Sender<Invocation>;

#[derive(Debug)]
pub(crate) enum Command {
    Accept(Box<Accept>),
    Append(Append),
    Steer(Box<Steer>),
    Claim(Claim),
    Alive(Alive),
    /// The node's presence has run out: what that start of it held, and any before, is runnable again.
    NodeLost(Holder),
    /// Agents whose work waits for a node.
    WhoWaits(oneshot::Sender<BTreeSet<(Tenant, AgentName)>>),
    /// Open work of agents that run on nodes.
    Demand(oneshot::Sender<Vec<AgentDemand>>),
    /// What waits, by agent.
    Queues(oneshot::Sender<Vec<Queue>>),
    /// Tells the waiter of the end; dropped at once if the invocation is not open here.
    Await {
        id: InvocationId,
        waiter: Waiter,
    },
    /// A hosted worker let go of an invocation that is still open.
    HolderGone {
        id: InvocationId,
        epoch: u32,
    },
    /// The shard is ours since a committed takeover: load it.
    Adopt(ShardRow),
    /// Settle and forget the shard; answers its last batch, or `None` if it is not held.
    Release {
        shard: ShardId,
        settled: oneshot::Sender<Option<i64>>,
    },
    /// A slot became free, or a pause is over.
    Ring,
    /// Between two batches: what it holds of each shard.
    #[cfg(test)]
    Look(Look),
}

#[cfg(test)]
pub(crate) struct Look(pub(crate) Box<dyn Fn(super::seen::Seen) + Send>);

#[cfg(test)]
impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Look")
    }
}

#[derive(Debug)]
pub(crate) struct Accept {
    pub(crate) meta: Arc<Meta>,
    pub(crate) spec: Arc<AgentSpec>,
    /// The caller chose the id, so it may be known already.
    pub(crate) id_is_given: bool,
    pub(crate) answer: oneshot::Sender<Result<Accepted, Problem>>,
    /// Told of the end.
    pub(crate) waiter: Option<Waiter>,
    /// Counts it among those that wait, until it is decided on.
    pub(crate) place: Option<Place>,
    /// The parent's letter that asked for it.
    pub(crate) letter: Option<ReadLetter>,
}

#[derive(Debug)]
pub(crate) enum Accepted {
    New(Box<Invocation>),
    /// The same request was accepted before under this id.
    Known(InvocationId),
}

#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) id: InvocationId,
    pub(crate) shard: ShardId,
    pub(crate) epoch: u32,
    pub(crate) after_seq: u32,
    /// Who asks, by its credentials; `None` is a worker of this process.
    pub(crate) holder: Option<Holder>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) then: AppendThen,
    pub(crate) answer: oneshot::Sender<Result<Appended, AppendAnswer>>,
}

/// A committed append.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Appended {
    /// Highest record of the invocation.
    pub(crate) seq: u32,
    /// What the owner wrote since the answer before.
    pub(crate) news: Vec<Record>,
    pub(crate) next: Next,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    GoOn,
    Waiting,
    Stop,
}

/// Why an append was not taken.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AppendAnswer {
    /// Ended, claimed since, or the shard is not ours: the worker stops.
    Stale,
    /// A step has another result already: this is the whole journal.
    Conflict(Vec<Record>),
    /// These very records are refused.
    Refused(Box<Problem>),
}

pub(crate) type SteerAnswer = oneshot::Sender<Result<Option<Invocation>, Problem>>;

/// Somebody outside of the worker wants something of one invocation.
#[derive(Debug)]
pub(crate) struct Steer {
    pub(crate) id: InvocationId,
    pub(crate) shard: ShardId,
    pub(crate) tenant: Tenant,
    pub(crate) actor: String,
    pub(crate) action: Action,
    /// The letter that asks for it.
    pub(crate) letter: Option<ReadLetter>,
    /// `Ok(None)`: it is not open here.
    pub(crate) answer: SteerAnswer,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "a command is boxed as a whole")]
pub(crate) enum Action {
    Cancel {
        reason: String,
    },
    Signal {
        /// Absent: its own.
        key: Option<String>,
        about: About,
    },
    /// Of a tool call that waits for a person, or of an ambiguous step.
    Decide {
        step: u32,
        decision: steering::Decision,
        note: Option<String>,
        output: Option<Value>,
    },
    Pause {
        reason: Option<String>,
    },
    Resume {
        reason: Option<String>,
    },
}

/// A node asks for work.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) holder: Holder,
    pub(crate) request_id: String,
    pub(crate) free: usize,
    /// Slots of the replicas that it is assigned, by agent: nothing else is given to it.
    pub(crate) assigned: HashMap<(Tenant, AgentName), u32>,
    /// What it runs already, by agent.
    pub(crate) running: HashMap<(Tenant, AgentName), u32>,
    /// Agents of others than the node's owner, and how many invocations of all of them it may run at the same time.
    pub(crate) others: Option<(HashSet<(Tenant, AgentName)>, u32)>,
    pub(crate) answer: oneshot::Sender<Vec<Granted>>,
}

/// Work given to a node.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    pub(crate) meta: Arc<Meta>,
    pub(crate) epoch: u32,
    /// Highest committed record.
    pub(crate) seq: u32,
    /// When it was granted; a repeat says the same.
    pub(crate) at: Timestamp,
}

/// A node says what it holds.
#[derive(Debug)]
pub(crate) struct Alive {
    pub(crate) holder: Holder,
    /// Everything of this lane's shards, with its epochs, also where the asker takes another process for their owner:
    /// the directory that it asks by may be behind, and what is named was not lost.
    pub(crate) held: HashMap<InvocationId, u32>,
    /// Of these, what this lane answers for.
    pub(crate) asked: HashSet<InvocationId>,
    /// What of that it is to stop.
    pub(crate) answer: oneshot::Sender<Vec<InvocationId>>,
}

/// What a hosted worker is started with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) meta: Arc<Meta>,
    pub(crate) spec: Option<Arc<AgentSpec>>,
    pub(crate) epoch: u32,
    pub(crate) seq: u32,
    /// The whole journal where it is at hand, else empty: it is read then.
    pub(crate) journal: Vec<Record>,
    pub(crate) cancel: tokio_util::sync::CancellationToken,
}

/// Accepts that may wait for one lane; past it the answer is `busy`.
const ACCEPTS_WAITING_MAX: usize = 8_192;
/// Open invocations that one lane keeps in memory.
const OPEN_MAX: usize = 400_000;

/// The way into a lane.
#[derive(Debug, Clone)]
pub(crate) struct LaneHandle {
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) gauges: Arc<Gauges>,
}

#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) accepts: AtomicUsize,
    pub(crate) open: AtomicUsize,
    pub(crate) ready: AtomicUsize,
    /// Commands but accepts that waited after the last batch.
    pub(crate) others: AtomicUsize,
    /// Open ones that are queued, running, waiting.
    pub(crate) states: [AtomicUsize; 3],
    /// Runnable on nodes only.
    pub(crate) placed: AtomicUsize,
    pub(crate) nodes: NodeBell,
}

impl Gauges {
    /// Commands that wait: accepts as of now, others as of the last batch.
    pub(crate) fn waiting(&self) -> usize {
        self.accepts.load(Ordering::Relaxed) + self.others.load(Ordering::Relaxed)
    }
}

/// Rung when there is more for nodes to run, or something that one of them is to stop.
#[derive(Debug, Default)]
pub(crate) struct NodeBell {
    pub(crate) bell: Doorbell,
    /// Who is to stop something.
    stops: Mutex<BTreeSet<Arc<str>>>,
}

impl NodeBell {
    pub(crate) fn stop(&self, node: Arc<str>) {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner).insert(node);
        self.bell.ring();
    }

    pub(crate) fn take_stops(&self) -> BTreeSet<Arc<str>> {
        std::mem::take(&mut *self.stops.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl LaneHandle {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Command>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        (
            Self {
                commands,
                gauges: Arc::default(),
            },
            receiver,
        )
    }

    /// Bounded: past the bound the caller is told to come back, and what was accepted goes on.
    pub(crate) fn accept(&self, mut accept: Box<Accept>) -> Result<(), Problem> {
        let place = Place::take(&self.gauges);
        if place.is_past(ACCEPTS_WAITING_MAX) || self.gauges.open.load(Ordering::Relaxed) >= OPEN_MAX {
            return Err(busy());
        }
        accept.place = Some(place);
        self.send(Command::Accept(accept))
    }

    /// Unbounded on purpose: everything else is bounded by what is open, and completion must never starve.
    pub(crate) fn send(&self, command: Command) -> Result<(), Problem> {
        self.commands
            .send(command)
            .map_err(|_| Problem::new(Code::Unavailable, "execution is shutting down"))
    }
}

/// A place among the accepts that wait, in the channel or in the lane's queue; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Gauges>);

impl Place {
    fn take(gauges: &Arc<Gauges>) -> Self {
        gauges.accepts.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(gauges))
    }

    fn is_past(&self, bound: usize) -> bool {
        self.0.accepts.load(Ordering::Relaxed) > bound
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.accepts.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Lease of a node's grants if nothing else is configured, from the sending of the request that the owner answered
/// last (EXECUTION.md §6.4).
#[cfg(test)]
pub(crate) const NODE_LEASE: std::time::Duration = std::time::Duration::from_secs(15);

pub(crate) fn busy() -> Problem {
    Problem::new(Code::Busy, "more work waits than can be committed soon").next("send it again after a second")
}

pub(crate) fn moved() -> Problem {
    Problem::new(Code::Moved, "another process owns the shard now").next("send it again")
}
