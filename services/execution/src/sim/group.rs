//! The tasks of one simulated process: killed or frozen together, at whatever they wait for.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::task::JoinSet;

const RUNNING: u8 = 0;
const FROZEN: u8 = 1;
const DEAD: u8 = 2;

#[derive(Debug, Default)]
pub(super) struct Group {
    state: AtomicU8,
    /// Polls of its tasks so far.
    pub(super) polls: AtomicU64,
    waiting: Mutex<Vec<Waker>>,
    tasks: Mutex<JoinSet<()>>,
    panics: AtomicU64,
}

impl Group {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn spawn(self: &Arc<Self>, future: impl Future<Output = ()> + Send + 'static) {
        if self.is_dead() {
            return;
        }
        let member = Member {
            group: Arc::clone(self),
            future: Some(Box::pin(future)),
        };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn(member);
        self.reap(&mut tasks);
    }

    fn reap(&self, tasks: &mut JoinSet<()>) {
        while let Some(ended) = tasks.try_join_next() {
            if ended.is_err_and(|error| error.is_panic()) {
                self.panics.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Tasks that have panicked so far.
    pub(super) fn panics(&self) -> u64 {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        self.reap(&mut tasks);
        self.panics.load(Ordering::Relaxed)
    }

    /// Nothing of it goes on, from this very moment.
    pub(super) fn kill(&self) {
        self.state.store(DEAD, Ordering::Relaxed);
        self.wake();
    }

    pub(super) fn freeze(&self) {
        let _ = self
            .state
            .compare_exchange(RUNNING, FROZEN, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(super) fn thaw(&self) {
        let _ = self
            .state
            .compare_exchange(FROZEN, RUNNING, Ordering::Relaxed, Ordering::Relaxed);
        self.wake();
    }

    pub(super) fn is_dead(&self) -> bool {
        self.state.load(Ordering::Relaxed) == DEAD
    }

    pub(super) fn is_running(&self) -> bool {
        self.state.load(Ordering::Relaxed) == RUNNING
    }

    fn wake(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Waker::wake);
        if self.is_dead() {
            // Those that wait for something else are dropped by the runtime.
            self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
        }
    }
}

struct Member {
    group: Arc<Group>,
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Future for Member {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.group.polls.fetch_add(1, Ordering::Relaxed);
        if self.group.state.load(Ordering::Relaxed) == FROZEN {
            let waker = context.waker().clone();
            let mut waiting = self.group.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(waker);
            return Poll::Pending;
        }
        let is_dead = self.group.is_dead();
        let is_done = match &mut self.future {
            Some(future) if !is_dead => future.as_mut().poll(context).is_ready(),
            _ => true,
        };
        // It may have killed its own process.
        if is_done || self.group.is_dead() {
            self.future = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}
