//! One bounded pool for CPU work of over a millisecond (embedding, compression), so that it never
//! takes the threads that the journal's commits wait on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use mesh_types::{Code, Problem};
use tokio::sync::Semaphore;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockingError {
    #[error("the work on the blocking pool panicked: {0}")]
    Panicked(String),
    /// The runtime is going down; the work may not have started.
    #[error("the blocking pool has stopped")]
    Stopped,
}

impl From<BlockingError> for Problem {
    fn from(error: BlockingError) -> Self {
        let code = match error {
            BlockingError::Panicked(_) => Code::Internal,
            BlockingError::Stopped => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

/// Runs at most cores − 1 (at least one) pieces of work at once; later ones wait in order.
#[derive(Debug, Clone)]
pub struct Blocking {
    permits: Arc<Semaphore>,
    width: usize,
}

impl Default for Blocking {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with_width(cores.saturating_sub(1).max(1))
    }
}

impl Blocking {
    pub fn with_width(width: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(width)),
            width,
        }
    }

    /// How many pieces of work run at once.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Runs `work` off the runtime's threads. Work that has started runs to its end, also when the
    /// caller goes away; work that still waits is dropped with its caller.
    pub async fn run<T, F>(&self, work: F) -> Result<T, BlockingError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| BlockingError::Stopped)?;
        let span = tracing::Span::current();
        let joined = tokio::task::spawn_blocking(move || {
            // The permit lives as long as the work, not as long as its caller.
            let _permit = permit;
            span.in_scope(|| catch_unwind(AssertUnwindSafe(work)))
        })
        .await;
        match joined {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) => Err(BlockingError::Panicked(crate::tasks::panic_text(panic.as_ref()))),
            Err(_) => Err(BlockingError::Stopped),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_more_than_its_width_runs_at_once() {
        let pool = Blocking::with_width(2);
        let running = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let work = (0..16).map(|_| {
            let (pool, running, most) = (pool.clone(), Arc::clone(&running), Arc::clone(&most));
            async move {
                pool.run(move || {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                })
                .await
            }
        });
        for done in futures::future::join_all(work).await {
            done.unwrap();
        }
        assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_frees_its_place() {
        let pool = Blocking::with_width(1);
        let error = pool.run(|| panic!("bad input")).await.map(|(): ()| ()).unwrap_err();
        assert_eq!(error, BlockingError::Panicked("bad input".to_owned()));
        assert_eq!(pool.run(|| 7).await, Ok(7));
    }
}
