//! When is it over, and how much memory is held: looks until the answer stands.

use std::time::{Duration, Instant};

use anyhow::bail;
use mesh_api::execution::{Invocation, InvocationGet, InvocationRequest};
use mesh_bus::Bus;
use mesh_types::InvocationId;

use crate::bench::agent::Target;
use crate::bench::processes::{ByProcess, Processes};

pub(super) const DEADLINE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(1);
const MEMORY_EVERY: Duration = Duration::from_secs(1);
/// Looks in a row with about the same memory.
const STEADY: u32 = 3;
const STEADY_MB: f64 = 1.0;
const STEADY_DEADLINE: Duration = Duration::from_secs(30);

/// The invocation, once it is as wanted.
pub(super) async fn until(
    bus: &Bus,
    target: &Target,
    id: InvocationId,
    mut is_so: impl FnMut(&Invocation) -> bool,
) -> anyhow::Result<Invocation> {
    let end = Instant::now() + DEADLINE;
    loop {
        let now = bus
            .call::<InvocationGet>(&target.caller, &InvocationRequest { id })
            .await?;
        if is_so(&now) {
            return Ok(now);
        }
        if Instant::now() >= end {
            bail!("{id} is still {} after {DEADLINE:?}", now.state.as_str());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Resident memory of the mesh in megabytes, when it has stopped changing.
pub(super) async fn settled_mb(processes: &Processes) -> anyhow::Result<ByProcess> {
    let end = Instant::now() + STEADY_DEADLINE;
    let of_mesh = |memory: &ByProcess| memory.get("mesh").copied();
    let Some(mut last) = of_mesh(&processes.memory_mb()) else {
        bail!("the memory of the mesh cannot be read: this system has no /proc");
    };
    let mut steady = 0;
    loop {
        tokio::time::sleep(MEMORY_EVERY).await;
        let memory = processes.memory_mb();
        let now = of_mesh(&memory).unwrap_or(last);
        steady = if (now - last).abs() < STEADY_MB { steady + 1 } else { 0 };
        if steady >= STEADY || Instant::now() >= end {
            return Ok(memory);
        }
        last = now;
    }
}
