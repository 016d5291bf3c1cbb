//! The loop runner: wake (bell or tick) → one pass → a typed status. A pass observes, plans, applies;
//! the next pass is the retry.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use mesh_types::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::Instrument;

use crate::context::Context;
use crate::doorbell::{Doorbell, Rung};
use crate::metrics::MetricName;
use crate::tasks::panic_text;

/// What a pass did. A pass may also return a plan's size, or a `Result` of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassReport {
    /// How many actions the plan had.
    pub plan_size: usize,
    pub error: Option<String>,
}

impl PassReport {
    pub fn planned(plan_size: usize) -> Self {
        Self { plan_size, error: None }
    }

    pub fn failed(error: impl Display) -> Self {
        Self {
            plan_size: 0,
            error: Some(error.to_string()),
        }
    }
}

impl From<usize> for PassReport {
    fn from(plan_size: usize) -> Self {
        Self::planned(plan_size)
    }
}

impl<T: Into<PassReport>, E: Display> From<Result<T, E>> for PassReport {
    fn from(result: Result<T, E>) -> Self {
        result.map_or_else(Self::failed, Into::into)
    }
}

/// Why a pass ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PassReason {
    Start,
    Bell,
    Tick,
    /// The pass before it failed.
    Retry,
}

/// The last pass of one loop, as the API and the UI show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopStatus {
    pub service: String,
    pub name: String,
    pub last_pass_at: Timestamp,
    pub duration_ms: u64,
    pub reason: PassReason,
    pub plan_size: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Since when passes fail without a success between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    pub passes: u64,
}

/// The loops of the process and the last pass of each.
#[derive(Debug, Clone, Default)]
pub struct Loops {
    all: Arc<Mutex<BTreeMap<(&'static str, &'static str), LoopStatus>>>,
}

impl Loops {
    /// By service and name.
    pub fn statuses(&self) -> Vec<LoopStatus> {
        self.lock().values().cloned().collect()
    }

    pub fn status(&self, service: &str, name: &str) -> Option<LoopStatus> {
        self.lock().get(&(service, name)).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(&'static str, &'static str), LoopStatus>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, service: &'static str, name: &'static str, pass: Pass) -> Option<Timestamp> {
        let mut all = self.lock();
        let before = all.get(&(service, name));
        let failing_before = before.and_then(|status| status.failing_since);
        let status = LoopStatus {
            service: service.to_owned(),
            name: name.to_owned(),
            last_pass_at: pass.at,
            duration_ms: u64::try_from(pass.duration.as_millis()).unwrap_or(u64::MAX),
            reason: pass.reason,
            plan_size: pass.report.plan_size,
            failing_since: pass.report.error.is_some().then(|| failing_before.unwrap_or(pass.at)),
            error: pass.report.error,
            passes: before.map_or(0, |status| status.passes) + 1,
        };
        all.insert((service, name), status);
        failing_before
    }
}

struct Pass {
    at: Timestamp,
    duration: Duration,
    reason: PassReason,
    report: PassReport,
}

/// First pause after a failed pass; it doubles up to the tick.
const RETRY_MIN: Duration = Duration::from_millis(200);

/// Runs `pass` at once, then at each ring and at least every `tick`, until the context's shutdown;
/// then returns when the pass in hand has ended. A failed or panicked pass is run again after a pause
/// of 200 ms, doubling up to `tick`, whatever the bell says. Run it with `ctx.tasks.spawn`.
pub async fn run_loop<P, F, R>(ctx: Context, name: &'static str, bell: Doorbell, tick: Duration, mut pass: P)
where
    P: FnMut() -> F,
    F: Future<Output = R>,
    R: Into<PassReport>,
{
    let passes = ctx.metrics.counter(MetricName::LoopPasses);
    let durations = ctx.metrics.histogram(MetricName::LoopPassDuration);
    let mut reason = PassReason::Start;
    let mut pause = RETRY_MIN;
    while !ctx.shutdown.is_cancelled() {
        let at = ctx.clock.now();
        let started = tokio::time::Instant::now();
        let span = tracing::debug_span!(parent: None, "pass", "mesh.service" = ctx.service, r#loop = name, ?reason);
        let ended = AssertUnwindSafe(pass()).catch_unwind().instrument(span).await;
        let report = match ended {
            Ok(report) => report.into(),
            Err(panic) => PassReport::failed(format_args!("the pass panicked: {}", panic_text(panic.as_ref()))),
        };
        let duration = started.elapsed();
        let outcome = if report.error.is_some() { "failed" } else { "ok" };
        passes.add(1, &[("loop", name), ("outcome", outcome)]);
        durations.record_duration(duration, &[("loop", name)]);
        let error = report.error.clone();
        let failing_before = ctx.loops.publish(
            ctx.service,
            name,
            Pass {
                at,
                duration,
                reason,
                report,
            },
        );
        log_change(name, error.as_deref(), failing_before);
        let retry_after = error.is_some().then_some(pause.min(tick));
        pause = if error.is_some() {
            pause.saturating_mul(2).min(tick.max(RETRY_MIN))
        } else {
            RETRY_MIN
        };
        tokio::select! {
            woken = next_reason(&bell, tick, retry_after) => reason = woken,
            () = ctx.shutdown.cancelled() => {}
        }
    }
}

/// Waits for what makes the next pass run; after a failure nobody's ring shortens the pause.
async fn next_reason(bell: &Doorbell, tick: Duration, retry_after: Option<Duration>) -> PassReason {
    if let Some(pause) = retry_after {
        tokio::time::sleep(pause).await;
        return PassReason::Retry;
    }
    match bell.wait(tick).await {
        Rung::Bell => PassReason::Bell,
        Rung::Tick => PassReason::Tick,
    }
}

/// A loop that keeps failing says so once, not at every pass; its status has the rest.
fn log_change(name: &'static str, error: Option<&str>, failing_before: Option<Timestamp>) {
    match (error, failing_before) {
        (Some(error), None) => tracing::warn!(r#loop = name, error, "a pass failed; it will be tried again"),
        (Some(error), Some(since)) => {
            tracing::debug!(r#loop = name, error, %since, "a pass failed again")
        }
        (None, Some(since)) => tracing::info!(r#loop = name, %since, "a loop is well again"),
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::Instant;

    use super::*;
    use crate::context::unconnected;

    const TICK: Duration = Duration::from_secs(60);

    /// Runs a loop until its pass has run `passes` times; gives the times of the passes.
    async fn times<R: Into<PassReport>>(
        context: &Context,
        bell: &Doorbell,
        passes: usize,
        result: impl Fn(usize) -> R,
    ) -> Vec<Duration> {
        let started = Instant::now();
        let mut at = Vec::new();
        let pass = || {
            at.push(started.elapsed());
            if at.len() == passes {
                context.shutdown.cancel();
            }
            let report = result(at.len());
            async move { report }
        };
        run_loop(context.clone(), "sweep", bell.clone(), TICK, pass).await;
        at
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_runs_at_once_then_at_each_tick() {
        let context = unconnected("registry").await;
        let at = times(&context, &Doorbell::new(), 3, |pass| pass).await;
        assert_eq!(at, [Duration::ZERO, TICK, 2 * TICK]);
        let status = context.loops.status("registry", "sweep").unwrap();
        assert_eq!(
            (status.passes, status.plan_size, status.reason),
            (3, 3, PassReason::Tick)
        );
        assert_eq!((status.error, status.failing_since), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_ring_makes_it_run_before_its_tick() {
        let context = unconnected("registry").await;
        let bell = Doorbell::new();
        let ringer = async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            bell.ring();
        };
        let (at, ()) = tokio::join!(times(&context, &bell, 2, |_| 0), ringer);
        assert_eq!(at, [Duration::ZERO, Duration::from_secs(7)]);
        assert_eq!(context.loops.statuses()[0].reason, PassReason::Bell);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_pass_is_tried_again_with_growing_pauses_whatever_rings() {
        let context = unconnected("registry").await;
        let bell = Doorbell::new();
        bell.ring();
        let at = times(
            &context,
            &bell,
            4,
            |pass| {
                if pass < 4 { Err("database away") } else { Ok(0) }
            },
        )
        .await;
        let pauses = [0, 200, 200 + 400, 200 + 400 + 800].map(Duration::from_millis);
        assert_eq!(at, pauses);
        let status = context.loops.status("registry", "sweep").unwrap();
        assert_eq!(
            (status.error, status.failing_since, status.reason),
            (None, None, PassReason::Retry)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_a_failed_pass() {
        let context = unconnected("registry").await;
        let runs = AtomicUsize::new(0);
        let pass = async || {
            if runs.fetch_add(1, Ordering::SeqCst) == 1 {
                context.shutdown.cancel();
            }
            if runs.load(Ordering::SeqCst) <= 2 {
                panic!("on purpose");
            }
            0
        };
        run_loop(context.clone(), "sweep", Doorbell::new(), TICK, pass).await;
        let status = context.loops.status("registry", "sweep").unwrap();
        assert_eq!(status.error.as_deref(), Some("the pass panicked: on purpose"));
        assert_eq!(status.passes, 2);
        assert!(status.failing_since.unwrap() <= status.last_pass_at);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_waits_for_the_pass_in_hand() {
        let context = unconnected("registry").await;
        let ended = AtomicUsize::new(0);
        let pass = async || {
            context.shutdown.cancel();
            tokio::time::sleep(Duration::from_secs(5)).await;
            ended.fetch_add(1, Ordering::SeqCst)
        };
        run_loop(context.clone(), "sweep", Doorbell::new(), TICK, pass).await;
        assert_eq!(ended.load(Ordering::SeqCst), 1);
    }
}
