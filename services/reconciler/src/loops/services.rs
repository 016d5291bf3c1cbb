//! Probes the services of the mesh: one that was heard before and is silent three times in a row is degraded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::{Doorbell, run_loop};
use mesh_types::event::Fact;
use mesh_types::{Tenant, Timestamp, Token};

use crate::state::State;
use crate::store::services::{self as store, ServiceRow};
use crate::store::{self as tables, Commit, Committed};

/// How long answers are listened for.
const LISTEN: Duration = Duration::from_millis(500);
/// Probes without an answer after which a service is degraded.
const SILENT_MAX: u32 = 3;
/// The services of the mesh that answer on the bus; other programs on the same server are none of ours.
const SERVICES: [&str; 8] = [
    "execution",
    "heartbeat",
    "identity",
    "inference",
    "memory",
    "messaging",
    "reconciler",
    "registry",
];

pub(super) async fn run(state: Arc<State>) {
    let tick = state.config.interval();
    let pass = || {
        let state = Arc::clone(&state);
        async move {
            tokio::select! {
                report = pass(&state) => report,
                () = state.context.shutdown.cancelled() => Ok(0),
            }
        }
    };
    run_loop(state.context.clone(), "services", Doorbell::new(), tick, pass).await;
}

async fn pass(state: &State) -> Result<usize, String> {
    let Some(lead) = state.leads() else {
        return Ok(0);
    };
    if !state.context.bus.is_connected() {
        // We are the silent one.
        return Err("not connected to NATS".to_owned());
    }
    let heard = state
        .context
        .bus
        .discover(LISTEN)
        .await
        .map_err(|error| error.to_string())?;
    let mut instances: BTreeMap<&str, u32> = BTreeMap::new();
    for service in &heard {
        *instances.entry(service.name.as_str()).or_default() += 1;
    }
    let known = store::all(&state.pool).await.map_err(|error| error.to_string())?;
    let now = state.context.clock.now();
    let changed = plan(&known, &instances, now);
    let events: Vec<_> = facts(&known, &changed)
        .map(|fact| state.event(Tenant::default(), fact))
        .collect();
    if changed.is_empty() {
        return Ok(0);
    }
    let commit = Commit {
        services: &changed,
        events: &events,
        ..Commit::default()
    };
    match tables::commit(&state.pool, lead.epoch, &commit).await {
        Ok(Committed::Done) => {
            state.relay_bell.ring();
            Ok(changed.len())
        }
        Ok(Committed::Stale) => Ok(0),
        Err(error) => Err(error.to_string()),
    }
}

/// The rows that become others by a probe.
fn plan(known: &[ServiceRow], heard: &BTreeMap<&str, u32>, now: Timestamp) -> Vec<ServiceRow> {
    let after = SERVICES.iter().filter_map(|name| {
        let before = known.iter().find(|row| row.name == *name);
        let instances = heard.get(name).copied().unwrap_or_default();
        let is_there = instances > 0;
        if before.is_none() && !is_there {
            return None;
        }
        let silent = before.map_or(0, |row| row.silent);
        let was_there = before.is_some_and(|row| row.silent == 0);
        let since = before.filter(|_| was_there == is_there).map_or(now, |row| row.since);
        let silent = if is_there {
            0
        } else {
            silent.saturating_add(1).min(SILENT_MAX)
        };
        Some(ServiceRow {
            name: (*name).to_owned(),
            instances,
            silent,
            degraded: silent >= SILENT_MAX,
            since,
        })
    });
    after.filter(|row| !known.contains(row)).collect()
}

fn facts<'a>(known: &'a [ServiceRow], changed: &'a [ServiceRow]) -> impl Iterator<Item = Fact> + 'a {
    changed.iter().filter_map(|row| {
        let was_degraded = known.iter().any(|before| before.name == row.name && before.degraded);
        let service: Token = row.name.parse().ok()?;
        match (was_degraded, row.degraded) {
            (false, true) => Some(Fact::ServiceDegraded {
                service,
                since: row.since,
            }),
            (true, false) => Some(Fact::ServiceRecovered {
                service,
                since: row.since,
            }),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_silent_probes_degrade_a_service_since_the_first_of_them() {
        let at = Timestamp::from_millis;
        let mut known = plan(&[], &[("memory", 2), ("stranger", 1)].into(), at(0));
        assert_eq!(known.len(), 1, "{known:?}");
        assert!(plan(&known, &[("memory", 2)].into(), at(1)).is_empty());
        for (probe, degraded) in [(10, false), (20, false), (30, true)] {
            let after = plan(&known, &BTreeMap::new(), at(probe));
            let told: Vec<_> = facts(&known, &after).collect();
            assert_eq!(
                (after[0].degraded, after[0].since, told.len()),
                (degraded, at(10), usize::from(degraded))
            );
            known = after;
        }
        assert!(
            plan(&known, &BTreeMap::new(), at(40)).is_empty(),
            "it is silent already"
        );
        let back = plan(&known, &[("memory", 1)].into(), at(50));
        assert_eq!((back[0].degraded, back[0].since), (false, at(50)));
        assert!(matches!(
            facts(&known, &back).next(),
            Some(Fact::ServiceRecovered { .. })
        ));
    }
}
