//! Closed-loop clients of `mesh.call`: each asks, checks the answer, asks again. And the wait for what comes after the
//! last answer: feed and lists.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use mesh_api::execution::{Empty, ExecutionStatus, ExecutionStatusView, State};
use mesh_bus::{Bus, Headers};
use mesh_store::IdExt;
use mesh_types::{AgentName, InvocationId, Subject};
use serde::Deserialize;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::agent::Target;
use super::ceiling::Bounds;
use super::place::Place;
use super::stopwatch::Latencies;

/// The whole of a request, as a person would type it.
pub(super) const PAYLOAD: &[u8] = br#"{"payload":{"text":"hello"}}"#;
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Clients that share a connection, at least.
const CLIENTS_PER_CONNECTION: u64 = 32;
const CONNECTIONS_MAX: u64 = 4;
const FAILURE_PAUSE: Duration = Duration::from_millis(10);
/// A client that fails so often stops: there is nothing to measure.
const FAILURES_MAX: u64 = 20;
const LOOK_EVERY: Duration = Duration::from_millis(5);
const CAUGHT_UP_DEADLINE: Duration = Duration::from_secs(120);

/// Connections for so many clients.
pub(super) fn connections(concurrency: u64) -> usize {
    let count = concurrency.div_ceil(CLIENTS_PER_CONNECTION).min(CONNECTIONS_MAX);
    usize::try_from(count).unwrap_or(1)
}

/// What the clients of one level got.
#[derive(Debug)]
pub(super) struct Calls {
    /// Of the invocations that were completed.
    pub(super) ids: Vec<Uuid>,
    pub(super) latencies: Latencies,
    pub(super) failed: u64,
    pub(super) first_failure: Option<String>,
    pub(super) started: Instant,
    /// When the last answer was there.
    pub(super) answered: Instant,
}

struct Course {
    subject: Subject,
    agent: AgentName,
    ends: Instant,
    budget: AtomicU64,
}

/// The part of the answer that is checked.
#[derive(Deserialize)]
struct Answer {
    id: InvocationId,
    agent: AgentName,
    state: State,
}

#[derive(Default)]
struct Lap {
    done: Vec<(Uuid, Duration)>,
    failed: u64,
    first_failure: Option<String>,
}

/// Calls with so many clients until the bounds are reached and the last answer is there.
pub(super) async fn run(
    target: &Target,
    connections: &[Bus],
    concurrency: u64,
    bounds: Bounds,
) -> anyhow::Result<Calls> {
    let started = Instant::now();
    let course = Arc::new(Course {
        subject: Subject::Call {
            tenant: target.tenant.clone(),
            agent: target.agent.clone(),
        },
        agent: target.agent.clone(),
        ends: started + bounds.time,
        budget: AtomicU64::new(bounds.count),
    });
    let mut clients = JoinSet::new();
    for bus in connections.iter().cycle().take(usize::try_from(concurrency)?) {
        clients.spawn(client(bus.clone(), Arc::clone(&course)));
    }
    let mut laps = Vec::new();
    while let Some(lap) = clients.join_next().await {
        laps.push(lap?);
    }
    let answered = Instant::now();
    let mut calls = Calls {
        ids: Vec::new(),
        latencies: Latencies::new(),
        failed: 0,
        first_failure: None,
        started,
        answered,
    };
    for lap in laps {
        calls.failed += lap.failed;
        calls.first_failure = calls.first_failure.or(lap.first_failure);
        for (id, latency) in lap.done {
            calls.ids.push(id);
            calls.latencies.record(latency);
        }
    }
    if calls.ids.is_empty() {
        bail!(
            "no call of {} was completed: {}",
            course.subject,
            calls.first_failure.unwrap_or_default()
        );
    }
    Ok(calls)
}

async fn client(bus: Bus, course: Arc<Course>) -> Lap {
    let mut lap = Lap::default();
    let spends = |left: u64| left.checked_sub(1);
    while Instant::now() < course.ends
        && course
            .budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spends)
            .is_ok()
    {
        let asked = Instant::now();
        match call(&bus, &course).await {
            Ok(id) => lap.done.push((id.to_uuid(), asked.elapsed())),
            Err(error) => {
                lap.failed += 1;
                lap.first_failure.get_or_insert(format!("{error:#}"));
                if lap.failed >= FAILURES_MAX {
                    break;
                }
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
    }
    lap
}

async fn call(bus: &Bus, course: &Course) -> anyhow::Result<InvocationId> {
    let asked = bus.request(
        &course.subject,
        Headers::new(),
        Bytes::from_static(PAYLOAD),
        CALL_DEADLINE,
    );
    check(&asked.await?.payload, &course.agent)
}

fn check(answer: &[u8], agent: &AgentName) -> anyhow::Result<InvocationId> {
    let answer: Answer = serde_json::from_slice(answer).context("the answer of a call is no invocation")?;
    if answer.state != State::Completed || answer.agent != *agent {
        bail!(
            "{} of agent {} is {}, and not a completed one of {agent}",
            answer.id,
            answer.agent,
            answer.state.as_str()
        );
    }
    Ok(answer.id)
}

/// Waits until the feed and the lists hold all that was committed and `is_all_there`; answers when that was so.
pub(super) async fn caught_up<F>(
    place: &Place,
    target: &Target,
    mut is_all_there: impl FnMut(ExecutionStatusView) -> F,
) -> anyhow::Result<Instant>
where
    F: Future<Output = anyhow::Result<bool>>,
{
    let end = Instant::now() + CAUGHT_UP_DEADLINE;
    loop {
        let status = place.bus.call::<ExecutionStatus>(&target.caller, &Empty {}).await?;
        // Asked first, taken last: what is checked then was there at this time.
        let now = Instant::now();
        if status.relayed && is_all_there(status).await? {
            return Ok(now);
        }
        if now >= end {
            bail!("feed and lists have not caught up within {CAUGHT_UP_DEADLINE:?}: `mesh logs execution` may say why");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_completed_invocation_of_that_agent_counts() {
        let agent: AgentName = "bench-noop-3".parse().unwrap();
        let answer = |state: &str, agent: &str| {
            format!(r#"{{"id":"inv_01ARZ3NDEKTSV4RRFFQ69G5FAV","agent":"{agent}","state":"{state}","version":1}}"#)
        };
        assert!(check(answer("completed", "bench-noop-3").as_bytes(), &agent).is_ok());
        assert!(check(answer("running", "bench-noop-3").as_bytes(), &agent).is_err());
        assert!(check(answer("completed", "sofia").as_bytes(), &agent).is_err());
        assert!(check(b"", &agent).is_err());
    }

    #[test]
    fn clients_share_a_few_connections() {
        assert_eq!([1, 32, 33, 64, 256, 1_024].map(connections), [1, 1, 2, 2, 4, 4]);
    }
}
