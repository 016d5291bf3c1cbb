//! What a lane is asked to do, and how it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mesh_api::execution::Invocation;
use mesh_api::journal::{Fact, Record};
use mesh_types::agent::AgentSpec;
use mesh_types::{Code, InvocationId, Problem, Tenant};
use tokio::sync::{mpsc, oneshot};

use crate::core::Meta;
use crate::shards::ShardId;
use crate::store::shards::ShardRow;

/// Told once when an invocation has ended; dropped when its shard is lost.
pub(crate) type Waiter = oneshot::Sender<Invocation>;

#[derive(Debug)]
pub(crate) enum Command {
    Accept(Box<Accept>),
    Append(Append),
    Cancel(Cancel),
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
    /// A slot became free.
    Ring,
}

#[derive(Debug)]
pub(crate) struct Accept {
    pub(crate) meta: Meta,
    pub(crate) spec: Arc<AgentSpec>,
    /// The caller chose the id, so it may be known already.
    pub(crate) id_is_given: bool,
    pub(crate) answer: oneshot::Sender<Result<Accepted, Problem>>,
    /// Told of the end.
    pub(crate) waiter: Option<Waiter>,
    /// Counts it among those that wait, until it is decided on.
    pub(crate) place: Option<Place>,
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
    pub(crate) epoch: u32,
    pub(crate) after_seq: u32,
    pub(crate) facts: Vec<Fact>,
    pub(crate) answer: oneshot::Sender<Result<u32, AppendAnswer>>,
}

/// Why an append was not taken.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AppendAnswer {
    /// Ended, claimed since, or the shard is not ours: the worker stops.
    Stale,
    /// These very records are refused.
    Refused(Box<Problem>),
}

#[derive(Debug)]
pub(crate) struct Cancel {
    pub(crate) id: InvocationId,
    pub(crate) shard: ShardId,
    pub(crate) tenant: Tenant,
    pub(crate) actor: String,
    pub(crate) reason: String,
    /// `None`: it is not open here.
    pub(crate) answer: oneshot::Sender<Result<Option<Invocation>, Problem>>,
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
const OPEN_MAX: usize = 200_000;

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

pub(crate) fn busy() -> Problem {
    Problem::new(Code::Busy, "more work waits than can be committed soon").next("send it again after a second")
}

pub(crate) fn moved() -> Problem {
    Problem::new(Code::Moved, "another process owns the shard now").next("send it again")
}
