//! Keeps one service running: a return, an error or a panic restarts it with backoff, or ends it for good.

use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use tracing::Instrument;

use crate::context::Context;
use crate::metrics::MetricName;
use crate::tasks::panic_text;
use crate::telemetry;

/// What becomes of a service that ends though nobody told it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// `mesh up`: all services in one process, so one may not take the others with it.
    WithBackoff,
    /// `mesh serve`: who started the process sees it end.
    Never,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuperviseError {
    #[error("service `{0}` returned though nobody told it to stop")]
    Returned(&'static str),
    #[error("service `{service}` failed: {reason}")]
    Failed { service: &'static str, reason: String },
    #[error("service `{service}` panicked: {reason}")]
    Panicked { service: &'static str, reason: String },
}

impl SuperviseError {
    fn label(&self) -> &'static str {
        match self {
            Self::Returned(_) => "returned",
            Self::Failed { .. } => "failed",
            Self::Panicked { .. } => "panicked",
        }
    }
}

/// Pause before the first restart; it doubles up to the most, plus up to a quarter by chance.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A run this long is forgiven what was before it.
const STEADY: Duration = Duration::from_secs(60);
/// How long the tasks of a run may take to end after it.
const DRAIN: Duration = Duration::from_secs(10);

const RUNNING: &str = "running";

/// Runs `factory` with a context of its own per run until `parent.shutdown`; then waits for the run to
/// drain. Readiness fails while the service waits for its restart.
pub async fn supervise<M, F, E>(
    parent: &Context,
    service: &'static str,
    restart: Restart,
    mut factory: M,
) -> Result<(), SuperviseError>
where
    M: FnMut(Context) -> F,
    F: Future<Output = Result<(), E>> + Send,
    E: Display,
{
    let restarts = parent.metrics.for_service(service).counter(MetricName::ServiceRestarts);
    let down = register(parent, service);
    let mut pause = BACKOFF_MIN;
    loop {
        let context = parent.for_service(service);
        let started = tokio::time::Instant::now();
        down.store(false, Ordering::Relaxed);
        let span = telemetry::service_span(service);
        let ended = AssertUnwindSafe(factory(context.clone()))
            .catch_unwind()
            .instrument(span)
            .await;
        let stopping = parent.shutdown.is_cancelled();
        context.shutdown.cancel();
        context.tasks.drain(DRAIN).await;
        let error = match ended {
            Ok(Ok(())) if stopping => return Ok(()),
            Ok(Ok(())) => SuperviseError::Returned(service),
            Ok(Err(error)) => SuperviseError::Failed {
                service,
                reason: error.to_string(),
            },
            Err(panic) => SuperviseError::Panicked {
                service,
                reason: panic_text(panic.as_ref()),
            },
        };
        if stopping || restart == Restart::Never {
            return Err(error);
        }
        if started.elapsed() >= STEADY {
            pause = BACKOFF_MIN;
        }
        down.store(true, Ordering::Relaxed);
        restarts.add(1, &[("reason", error.label())]);
        let wait = jittered(pause, parent.ids.next::<mesh_types::InstanceId>());
        tracing::error!(service, %error, restart_in_ms = wait.as_millis() as u64, "a service ended; it is restarted");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = parent.shutdown.cancelled() => return Ok(()),
        }
        pause = pause.saturating_mul(2).min(BACKOFF_MAX);
    }
}

fn register(parent: &Context, service: &'static str) -> Arc<AtomicBool> {
    let down = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&down);
    parent.health.for_service(service).register_with(RUNNING, move || {
        let is_down = seen.load(Ordering::Relaxed);
        async move {
            if is_down {
                Err("waits for its restart".to_owned())
            } else {
                Ok(())
            }
        }
    });
    down
}

/// `pause` plus up to a quarter, taken from an id's low bits: services that fell together rise apart.
fn jittered(pause: Duration, id: mesh_types::InstanceId) -> Duration {
    use mesh_types::Id;
    let share = u32::try_from(id.as_u128() & 0xff).unwrap_or(0);
    pause + pause / 4 * share / 256
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::time::Instant;

    use super::*;
    use crate::context::unconnected;

    type Ended = Result<(), &'static str>;

    #[tokio::test(start_paused = true)]
    async fn a_service_that_fails_or_panics_is_restarted_with_growing_pauses() {
        let process = unconnected("mesh").await;
        let runs = AtomicUsize::new(0);
        let started = Instant::now();
        let mut at = Vec::new();
        let factory = |context: Context| {
            at.push(started.elapsed());
            let run = runs.fetch_add(1, Ordering::SeqCst);
            let process = process.clone();
            async move {
                assert_eq!(context.service, "registry");
                match run {
                    0 => Err("database away"),
                    1 => panic!("on purpose"),
                    2 => Ok(()),
                    _ => {
                        process.shutdown.cancel();
                        context.shutdown.cancelled().await;
                        Ok(())
                    }
                }
            }
        };
        let ended = supervise(&process, "registry", Restart::WithBackoff, factory).await;
        assert_eq!(ended, Ok(()));
        let pauses: Vec<_> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses.len(), 3);
        for (pause, least) in pauses.iter().zip([250, 500, 1_000].map(Duration::from_millis)) {
            assert!(
                *pause >= least && *pause <= least + least / 4 + Duration::from_millis(2),
                "{pauses:?}"
            );
        }
        let text = process.metrics.render().unwrap();
        assert!(
            text.contains(r#"mesh_service_restarts_total{mesh_service="registry",reason="panicked"} 1"#),
            "{text}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_takes_its_tasks_with_it() {
        let process = unconnected("mesh").await;
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let mut sender = Some(sender);
        let factory = |context: Context| {
            let sender = sender.take();
            let told = context.shutdown.clone();
            context.tasks.spawn("listen", async move {
                let _held = sender;
                told.cancelled().await;
            });
            async { Ended::Err("database away") }
        };
        let ended = supervise(&process, "registry", Restart::Never, factory).await;
        let reason = "database away".to_owned();
        assert_eq!(
            ended,
            Err(SuperviseError::Failed {
                service: "registry",
                reason
            })
        );
        assert!(receiver.await.is_err(), "the task has ended");
        assert!(!process.shutdown.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_service_waits_for_its_restart_the_process_is_not_ready() {
        let process = unconnected("mesh").await;
        let run = supervise(&process, "registry", Restart::WithBackoff, |_| async {
            Ended::Err("away")
        });
        let look = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let report = process.health.check().await;
            process.shutdown.cancel();
            report
        };
        let (ended, report) = tokio::join!(run, look);
        assert_eq!(ended, Ok(()));
        assert!(
            report
                .failing
                .iter()
                .any(|failing| (failing.service, failing.probe) == ("registry", RUNNING))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_return_without_being_told_is_an_error() {
        let process = unconnected("mesh").await;
        let ended = supervise(&process, "registry", Restart::Never, |_| async { Ended::Ok(()) }).await;
        assert_eq!(ended, Err(SuperviseError::Returned("registry")));
    }
}
