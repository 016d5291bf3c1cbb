//! The only place that spawns: every task has a name and an owner that joins it. A panic is logged and counted.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::metrics::{Counter, MetricName, Metrics};

/// The tasks of one service. Clones share them.
#[derive(Clone)]
pub struct Tasks {
    inner: Arc<Inner>,
}

struct Inner {
    tracker: TaskTracker,
    abort: CancellationToken,
    running: Mutex<BTreeMap<u64, &'static str>>,
    next: AtomicU64,
    span: tracing::Span,
    panics: Counter,
}

/// What a drain left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drained {
    /// Every task ended by itself.
    Clean,
    /// These were aborted at the deadline.
    Aborted(Vec<&'static str>),
}

impl Tasks {
    /// Tasks that run inside `span`, which names their service.
    pub fn new(span: tracing::Span, metrics: &Metrics) -> Self {
        Self {
            inner: Arc::new(Inner {
                tracker: TaskTracker::new(),
                abort: CancellationToken::new(),
                running: Mutex::default(),
                next: AtomicU64::new(0),
                span,
                panics: metrics.counter(MetricName::TaskPanics),
            }),
        }
    }

    /// Starts `future` as a task. It should end soon after its service's shutdown token is cancelled;
    /// what is still there at the drain's deadline is dropped at its next await.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        self.running().insert(number, name);
        let guard = Running {
            tasks: self.clone(),
            number,
        };
        // In a box at once: each layer around it would move it, and hold the place that it was moved from.
        let future = Box::pin(AssertUnwindSafe(future).catch_unwind());
        let body = async move {
            // Moved in, so that the name leaves the list also when the task is dropped.
            let guard = guard;
            tokio::select! {
                ended = future => {
                    if let Err(panic) = ended {
                        guard.tasks.inner.panics.add(1, &[("task", name)]);
                        tracing::error!(task = name, panic = panic_text(panic.as_ref()), "a task panicked");
                    }
                }
                () = guard.tasks.inner.abort.cancelled() => {
                    tracing::warn!(task = name, "a task was aborted: it had not ended by the deadline");
                }
            }
        };
        self.inner.tracker.spawn(body.instrument(self.inner.span.clone()));
    }

    /// Names of the tasks that run now, one entry each.
    pub fn names(&self) -> Vec<&'static str> {
        self.running().values().copied().collect()
    }

    /// Waits until every task has ended, at most until `deadline` from now, then aborts the rest.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        self.inner.tracker.close();
        if tokio::time::timeout(deadline, self.inner.tracker.wait()).await.is_ok() {
            return Drained::Clean;
        }
        let left = self.names();
        self.abort();
        self.inner.tracker.wait().await;
        Drained::Aborted(left)
    }

    /// Drops every task at its next await.
    pub fn abort(&self) {
        self.inner.abort.cancel();
    }

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, &'static str>> {
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Running {
    tasks: Tasks,
    number: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.running().remove(&self.number);
    }
}

/// What a panic said, where it said it in words.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks() -> Tasks {
        Tasks::new(tracing::Span::none(), &Metrics::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_tasks_that_end_in_time() {
        let tasks = tasks();
        tasks.spawn("slow", tokio::time::sleep(Duration::from_secs(3)));
        let started = tokio::time::Instant::now();
        assert_eq!(tasks.drain(Duration::from_secs(10)).await, Drained::Clean);
        assert_eq!(started.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_past_the_deadline_is_aborted_by_name() {
        let tasks = tasks();
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn("deaf", async move {
            let _held = sender;
            std::future::pending::<()>().await;
        });
        tasks.spawn("quick", async {});
        let started = tokio::time::Instant::now();
        assert_eq!(
            tasks.drain(Duration::from_secs(10)).await,
            Drained::Aborted(vec!["deaf"])
        );
        assert_eq!(started.elapsed(), Duration::from_secs(10));
        assert!(receiver.await.is_err(), "the task's state is dropped");
        assert!(tasks.names().is_empty());
    }

    #[tokio::test]
    async fn a_panic_ends_its_task_only() {
        let metrics = Metrics::default();
        let tasks = Tasks::new(tracing::Span::none(), &metrics);
        tasks.spawn("broken", async { panic!("on purpose") });
        tasks.spawn("fine", async {});
        assert_eq!(tasks.drain(Duration::from_secs(10)).await, Drained::Clean);
        let text = metrics.render().unwrap();
        assert!(text.contains(r#"mesh_task_panics_total{task="broken"} 1"#), "{text}");
    }
}
