//! Senders: so many at a time, each sends its next message when the last one is accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mesh_api::execution::{AcceptRequest, Invocation, InvocationAccept, InvokeRequest, WAIT_MAX};
use mesh_bus::Bus;
use mesh_types::{Code, InvocationId};
use serde_json::json;
use tokio::task::JoinSet;

use super::timing::DEADLINE;
use crate::bench::agent::Target;
use crate::bench::calls;
use crate::bench::place::Place;

const PAUSE: Duration = Duration::from_millis(20);
const WAIT_MS_MAX: u64 = WAIT_MAX.as_secs() * 1_000;

/// A request that says this.
pub(super) fn saying(text: &str) -> InvokeRequest {
    InvokeRequest {
        payload: json!({ "text": text }),
        ..InvokeRequest::default()
    }
}

/// Accepted, or tried again where the mesh says that it has too much to do.
pub(super) async fn send(bus: &Bus, target: &Target, request: &InvokeRequest) -> anyhow::Result<Invocation> {
    accept(bus, target, request, 0).await
}

/// Until it has ended.
pub(super) async fn run(bus: &Bus, target: &Target, request: &InvokeRequest) -> anyhow::Result<Invocation> {
    let ended = accept(bus, target, request, WAIT_MS_MAX).await?;
    if !ended.state.is_ended() {
        bail!("{} has not ended within {} s", ended.id, WAIT_MS_MAX / 1_000);
    }
    Ok(ended)
}

async fn accept(bus: &Bus, target: &Target, request: &InvokeRequest, wait_ms: u64) -> anyhow::Result<Invocation> {
    let end = Instant::now() + DEADLINE;
    let request = AcceptRequest {
        agent: target.agent.clone(),
        request: request.clone(),
        wait_ms,
    };
    loop {
        match bus.call::<InvocationAccept>(&target.caller, &request).await {
            Err(problem) if problem.is(Code::Busy) && Instant::now() < end => tokio::time::sleep(PAUSE).await,
            answer => return answer.with_context(|| format!("a message to {} was refused", target.agent)),
        }
    }
}

/// `count` messages from so many senders; `request` makes the message of that number, from 0. In no order.
pub(super) async fn send_all(
    place: &Place,
    target: &Target,
    senders: u64,
    count: u64,
    request: impl Fn(u64) -> InvokeRequest + Send + Sync + 'static,
) -> anyhow::Result<Vec<InvocationId>> {
    let connections = place.connections(calls::connections(senders)).await?;
    let (next, request) = (Arc::new(AtomicU64::new(0)), Arc::new(request));
    let mut tasks = JoinSet::new();
    for bus in connections.iter().cycle().take(usize::try_from(senders)?) {
        let (bus, target) = (bus.clone(), target.clone());
        let (next, request) = (Arc::clone(&next), Arc::clone(&request));
        tasks.spawn(async move {
            let mut ids = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<_, anyhow::Error>(ids);
                }
                ids.push(send(&bus, &target, &request(number)).await?.id);
            }
        });
    }
    let mut ids = Vec::new();
    while let Some(sent) = tasks.join_next().await {
        ids.extend(sent??);
    }
    Ok(ids)
}
