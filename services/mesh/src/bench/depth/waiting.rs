//! Invocations that wait, half of them for a timer far ahead and half for a person: what they cost, and that a sample of
//! them still ends.

use std::time::{Duration, Instant};

use anyhow::bail;
use mesh_api::execution::State;
use mesh_api::journal::WaitOn;
use mesh_api::steering::{ApprovalDecide, DecideRequest, Decision};
use mesh_types::agent::{AgentSpec, ApprovalRule, Limits, MemoryUse, Model, Runtime, Span, Tool, ToolSpec};
use mesh_types::{InvocationId, Timestamp};

use super::messages::{saying, send, send_all};
use super::report::{Bar, Measure};
use super::store;
use super::timing::{settled_mb, until};
use crate::bench::agent::{self, Target};
use crate::bench::calls;
use crate::bench::ceiling::Bounds;
use crate::bench::place::Place;
use crate::bench::processes::Processes;
use crate::bench::progress::Progress;
use crate::bench::stopwatch::Latencies;

/// Far fewer than wait: if those that wait held their slots, not all would come to wait.
const CONCURRENCY: u32 = 64;
const SENDERS: u64 = 64;
const DAY_SECONDS: u64 = 86_400;
const SAMPLE_MAX: u64 = 50;
const SAMPLE_SLEEP_SECONDS: u64 = 3;
/// Megabytes that so many may take; fewer may take as much, as some of it is no single one's.
const MEMORY_MB: f64 = 200.0;
const MEMORY_OF: f64 = 100_000.0;
const LOOK_EVERY: Duration = Duration::from_millis(200);
const SAY_EVERY: Duration = Duration::from_secs(15);
/// Nobody has come to wait for so long: nobody will.
const STUCK: Duration = Duration::from_secs(60);

pub(super) async fn measure(place: &Place, count: u64, progress: &Progress) -> anyhow::Result<Measure> {
    let sleeper = agent::declare(&place.bus, "bench-sleeper", calling(ToolSpec::builtin("sleep"))).await?;
    let guarded = ToolSpec {
        approval: ApprovalRule::Always,
        ..ToolSpec::builtin("now")
    };
    let asker = agent::declare(&place.bus, "bench-asker", calling(guarded)).await?;
    progress.phase("warming up");
    warm_up(place, &sleeper).await?;
    let processes = Processes::find(place).await;
    let before = settled_mb(&processes).await?;
    progress.phase(&format!("{count} invocations come to wait"));
    let started = Instant::now();
    let (timers, approvals) = (count / 2, count - count / 2);
    let (_, asked) = tokio::try_join!(
        send_all(place, &sleeper, SENDERS / 2, timers, |_| sleeping(DAY_SECONDS)),
        send_all(place, &asker, SENDERS / 2, approvals, |_| saying("What time is it?")),
    )?;
    let accepted = started.elapsed();
    all_wait(place, count, progress).await?;
    let waited = started.elapsed();
    calls::caught_up(place, &sleeper, |_| async { Ok(true) }).await?;
    progress.phase("they wait: looking at the memory");
    let after = settled_mb(&processes).await?;
    let running = store::open(&place.lanes, State::Running).await?;
    progress.phase("a sample of them ends");
    let sample = approvals.min(SAMPLE_MAX);
    let approved = approve(place, &asker, &asked[..usize::try_from(sample)?]).await?;
    let late = wake(place, &sleeper, sample).await?;
    let added = mb(&after, "mesh") - mb(&before, "mesh");
    let bar = MEMORY_MB * (count as f64 / MEMORY_OF).max(1.0);
    Ok(Measure::new("waiting")
        .figure("invocations", count as f64)
        .figure("accepted_seconds", accepted.as_secs_f64())
        .figure("waiting_seconds", waited.as_secs_f64())
        .figure("per_second", count as f64 / waited.as_secs_f64())
        .figure("slots_of_agent", f64::from(CONCURRENCY))
        .barred("slots_in_use", running as f64, Bar::Exactly(0.0))
        .figure("rss_before_mb", mb(&before, "mesh"))
        .figure("rss_after_mb", mb(&after, "mesh"))
        .barred("added_mb", added, Bar::Below(bar))
        .figure("added_bytes_each", added * 1_024.0 * 1_024.0 / count as f64)
        .figure("postgres_added_mb", mb(&after, "postgres") - mb(&before, "postgres"))
        .figure("nats_added_mb", mb(&after, "nats") - mb(&before, "nats"))
        .barred(
            "approved_completed",
            approved.count() as f64,
            Bar::Exactly(sample as f64),
        )
        .figure("approved_p50_ms", approved.quantile_ms(0.5))
        .figure("approved_p99_ms", approved.quantile_ms(0.99))
        .barred("timer_completed", late.count() as f64, Bar::Exactly(sample as f64))
        .figure("timer_late_p50_ms", late.quantile_ms(0.5))
        .figure("timer_late_p99_ms", late.quantile_ms(0.99)))
}

/// Calls the tool once, then says what it got: no channel, no memory.
fn calling(tool: ToolSpec) -> AgentSpec {
    AgentSpec {
        runtime: Runtime::Llm,
        model: Model {
            name: "mock:script:tools".to_owned(),
            ..Model::default()
        },
        memory: MemoryUse {
            query_top_k: 0,
            writeback: false,
            ..MemoryUse::default()
        },
        tools: vec![Tool(Box::new(tool))],
        limits: Limits {
            concurrency: CONCURRENCY,
            timeout: Span(Duration::from_secs(30 * DAY_SECONDS)),
            ..Limits::default()
        },
        ..AgentSpec::default()
    }
}

/// The mock takes the text as the tool's arguments.
fn sleeping(seconds: u64) -> mesh_api::execution::InvokeRequest {
    saying(&format!(r#"{{"seconds":{seconds}}}"#))
}

/// What is allocated once, by whoever comes first, is no cost of waiting.
async fn warm_up(place: &Place, sleeper: &Target) -> anyhow::Result<()> {
    let noop = agent::publish(&place.bus, 3).await?;
    let connections = place.connections(calls::connections(SENDERS)).await?;
    let bounds = Bounds {
        time: Duration::from_secs(2),
        count: u64::MAX,
    };
    calls::run(&noop, &connections, SENDERS, bounds).await?;
    for id in send_all(place, sleeper, SENDERS, SENDERS, |_| sleeping(0)).await? {
        until(&place.bus, sleeper, id, |now| now.state.is_ended()).await?;
    }
    calls::caught_up(place, sleeper, |_| async { Ok(true) }).await.map(drop)
}

async fn all_wait(place: &Place, count: u64, progress: &Progress) -> anyhow::Result<()> {
    let (mut last, mut changed, mut said) = (0, Instant::now(), Instant::now());
    loop {
        let waiting = store::open(&place.lanes, State::Waiting).await?;
        if waiting >= count {
            return Ok(());
        }
        let now = Instant::now();
        if waiting != last {
            (last, changed) = (waiting, now);
        }
        if now - changed >= STUCK {
            bail!("{waiting} of {count} wait, and no more came in {} s", STUCK.as_secs());
        }
        if now - said >= SAY_EVERY {
            said = now;
            progress.say(&format!("{waiting} of {count} wait"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// From the request to approve until it is seen as completed.
async fn approve(place: &Place, asker: &Target, ids: &[InvocationId]) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::new();
    for id in ids {
        let waits = until(&place.bus, asker, *id, |now| now.state == State::Waiting).await?;
        let Some(item) = waits.waits_for.first() else {
            bail!("{id} waits for nothing");
        };
        let decide = DecideRequest {
            invocation: *id,
            step: item.step,
            decision: Decision::Approve,
            note: None,
            output: None,
        };
        let asked = Instant::now();
        place.bus.call::<ApprovalDecide>(&asker.caller, &decide).await?;
        let ended = until(&place.bus, asker, *id, |now| now.state.is_ended()).await?;
        if ended.state == State::Completed {
            latencies.record(asked.elapsed());
        }
    }
    Ok(latencies)
}

/// How long after its time each of some new sleepers has completed, among all that wait.
async fn wake(place: &Place, sleeper: &Target, count: u64) -> anyhow::Result<Latencies> {
    let mut due: Vec<(InvocationId, Timestamp)> = Vec::new();
    for _ in 0..count {
        let sent = send(&place.bus, sleeper, &sleeping(SAMPLE_SLEEP_SECONDS)).await?;
        let waits = until(&place.bus, sleeper, sent.id, |now| now.state == State::Waiting).await?;
        match waits.waits_for.first().map(|item| &item.on) {
            Some(WaitOn::Timer { until }) => due.push((sent.id, *until)),
            other => bail!("{} sleeps and waits for {other:?}", sent.id),
        }
    }
    let mut latencies = Latencies::new();
    for (id, at) in due {
        let ended = until(&place.bus, sleeper, id, |now| now.state.is_ended()).await?;
        if let (State::Completed, Some(ended_at)) = (ended.state, ended.ended_at) {
            latencies.record(ended_at.since(at));
        }
    }
    Ok(latencies)
}

fn mb(memory: &crate::bench::processes::ByProcess, name: &str) -> f64 {
    memory.get(name).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_can_be_declared() {
        for tool in ["sleep", "now"] {
            let agent: mesh_types::agent::Agent = serde_json::from_value(serde_json::json!({
                "apiVersion": "mesh/v1", "metadata": {"name": "x"}, "spec": calling(ToolSpec::builtin(tool)),
            }))
            .unwrap();
            agent.validate().unwrap();
        }
    }
}
