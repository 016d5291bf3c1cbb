//! Forks of a long invocation from its last step: until the fork is accepted, and until its own first step runs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mesh_api::execution::State;
use mesh_api::steering::{Edit, ForkRequest, InvocationFork};
use mesh_store::IdExt as _;
use mesh_types::{Clock, InvocationId, SystemClock};

use super::messages::{run, saying};
use super::report::{Bar, Measure};
use super::store;
use super::timing::until;
use crate::bench::agent::{self, Target};
use crate::bench::place::Place;
use crate::bench::progress::Progress;
use crate::bench::stopwatch::Latencies;

const FORKS: u64 = 50;
const WARM_UP: u64 = 3;
const READY_MS: f64 = 50.0;

/// An invocation that has ended, with its last step.
pub(super) struct Long {
    pub(super) target: Target,
    pub(super) id: InvocationId,
    pub(super) steps: u32,
}

pub(super) async fn of_noop(place: &Place, steps: u32, progress: &Progress) -> anyhow::Result<Measure> {
    progress.phase(&format!("an invocation of {steps} steps"));
    let target = agent::publish(&place.bus, steps).await?;
    let ended = run(&place.bus, &target, &saying("hello")).await?;
    if ended.state != State::Completed {
        bail!("{} is {} and not completed", ended.id, ended.state.as_str());
    }
    let long = Long {
        target,
        id: ended.id,
        steps,
    };
    measure("fork", place, &long, progress).await
}

/// Of the agent with a growing prompt: its model step runs again.
pub(super) async fn of_history(place: &Place, long: &Long, progress: &Progress) -> anyhow::Result<Measure> {
    measure("fork_of_history", place, long, progress).await
}

async fn measure(name: &'static str, place: &Place, long: &Long, progress: &Progress) -> anyhow::Result<Measure> {
    progress.phase(&format!("{FORKS} forks of {} steps", long.steps));
    for _ in 0..WARM_UP {
        fork(place, long).await?;
    }
    let (mut accepted, mut begun, mut completed) = (Latencies::new(), Latencies::new(), Latencies::new());
    for _ in 0..FORKS {
        let forked = fork(place, long).await?;
        accepted.record(forked.accepted);
        begun.record(forked.begun);
        completed.record(forked.completed);
    }
    Ok(Measure::new(name)
        .figure("steps", f64::from(long.steps))
        .figure("forks", FORKS as f64)
        .figure("accepted_p50_ms", accepted.quantile_ms(0.5))
        .barred("accepted_p99_ms", accepted.quantile_ms(0.99), Bar::Below(READY_MS))
        .figure("first_step_p50_ms", begun.quantile_ms(0.5))
        .barred("first_step_p99_ms", begun.quantile_ms(0.99), Bar::Below(READY_MS))
        .figure("completed_p50_ms", completed.quantile_ms(0.5))
        .figure("completed_p99_ms", completed.quantile_ms(0.99)))
}

/// From the request until …
struct Forked {
    accepted: Duration,
    /// Its first own step starts, by the clock of this machine.
    begun: Duration,
    /// It is seen as completed.
    completed: Duration,
}

async fn fork(place: &Place, long: &Long) -> anyhow::Result<Forked> {
    let request = ForkRequest {
        id: long.id,
        from_step: long.steps,
        edit: Edit::default(),
        dry_run: false,
        idempotency_key: None,
    };
    let (asked, asked_at) = (Instant::now(), SystemClock::default().now());
    let reply = place.bus.call::<InvocationFork>(&long.target.caller, &request).await?;
    let accepted = asked.elapsed();
    let invocation = reply.invocation.context("a fork was asked for, and none was made")?;
    let ended = until(&place.bus, &long.target, invocation.id, |now| now.state.is_ended()).await?;
    let completed = asked.elapsed();
    if ended.state != State::Completed {
        let error = ended.error.map(|error| error.detail).unwrap_or_default();
        bail!("the fork {} is {}: {error}", ended.id, ended.state.as_str());
    }
    let first = store::first_step(&place.lanes, ended.id.to_uuid()).await?;
    let (step, started_at) = first.context("the fork has no step of its own")?;
    if step != i64::from(long.steps) {
        bail!("the fork {} began at step {step}, not at {}", ended.id, long.steps);
    }
    Ok(Forked {
        accepted,
        begun: mesh_types::Timestamp::from(started_at).since(asked_at),
        completed,
    })
}
