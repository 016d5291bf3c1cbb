//! Live pushes: one ingest a process, whoever listens (EXECUTION §9).
//!
//! JOURNAL (which may lose and repeat) and EVENTS are merged into one order, and each of a tenant's pushes is written
//! once, as the text that all of its readers are sent. A reader ([`Seat`]) has nothing of its own but a place in that
//! log: reading takes no lock, being slow costs no memory, and what is bounded is how far behind it may be. Who comes
//! back with a cursor goes on in the log, or, below it, from the feed and EVENTS themselves (`replay`).
//!
//! The ingest runs while somebody listens and a while longer; without readers nothing is heard and nothing is parsed.

mod ingest;
mod log;
mod nodes;
mod position;
mod replay;
mod rooms;
mod said;
mod seat;
mod shard;
mod topic;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_api::Caller;
use mesh_runtime::{Context, Tasks};
use mesh_types::Code;
use tokio::sync::{Notify, Semaphore, watch};

use crate::http::problem::Failure;
pub(crate) use position::Position;
pub(crate) use replay::{Page, Replay, Replayed};
use rooms::Rooms;
pub(crate) use seat::{Flag, Joined, Seat};
pub(crate) use topic::Topic;

/// How long somebody who comes waits for the ingest to run.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// Readers that are served from the feed at the same time; the others wait their turn.
const REPLAYS_MAX: usize = 8;

/// Cheap to clone; one per process.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Inner>);

pub(crate) struct Inner {
    rooms: Mutex<Rooms>,
    /// Grows whenever the ingest begins.
    started: watch::Sender<u64>,
    /// Rung when somebody wants to listen.
    wanted: Notify,
    next_seat: AtomicU64,
    replays: Arc<Semaphore>,
    has_credentials: bool,
    context: Context,
}

impl Hub {
    /// Its task starts at once and waits for the first reader.
    pub(crate) fn new(context: &Context, has_credentials: bool) -> Self {
        let hub = Self(Arc::new(Inner {
            rooms: Mutex::default(),
            started: watch::channel(0).0,
            wanted: Notify::new(),
            next_seat: AtomicU64::new(0),
            replays: Arc::new(Semaphore::new(REPLAYS_MAX)),
            has_credentials,
            context: context.clone(),
        }));
        let running = hub.clone();
        context.tasks.spawn("live-hub", async move {
            ingest::run(running.clone()).await;
            running.stop();
        });
        hub
    }

    /// A place in the pushes of the caller's tenant: now, or after a cursor.
    ///
    /// # Errors
    /// `Unavailable` when the bus or `execution` do not answer.
    pub(crate) async fn join(
        &self,
        caller: Caller,
        topics: Vec<Topic>,
        after: Option<&Position>,
    ) -> Result<Joined, Failure> {
        let id = self.0.next_seat.fetch_add(1, Ordering::Relaxed);
        let mut started = self.0.started.subscribe();
        let joined = async {
            loop {
                started.mark_unchanged();
                if let Some(joined) = seat::join(self, id, &caller, &topics, after) {
                    return Some(joined);
                }
                self.0.wanted.notify_one();
                started.changed().await.ok()?;
            }
        };
        match tokio::time::timeout(START_DEADLINE, joined).await {
            Ok(Some(joined)) => Ok(joined),
            _ => Err(Failure::new(
                Code::Unavailable,
                "pushes are not available at the moment",
            )),
        }
    }

    /// Who owns the tasks of readers.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.0.context.tasks
    }

    /// Every reader is told that the process stops.
    fn stop(&self) {
        for (_, seat) in self.rooms().handles() {
            seat.tell(Flag::STOP);
        }
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
