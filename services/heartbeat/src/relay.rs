//! Publishes the facts of the outbox to EVENTS, at the bell of each commit.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_bus::Headers;
use mesh_runtime::{MetricName, PassReport, run_loop};
use mesh_store::{Outbox, Pending};
use mesh_types::{Subject, Timestamp};
use tokio::sync::Mutex;

use crate::state::State;

/// Another process, or this one before it died, may have left events behind: looked for at least this often.
const TICK: Duration = Duration::from_secs(5);

pub(crate) async fn run(state: Arc<State>) {
    let last_pruned = Arc::new(Mutex::new(None));
    run_loop(
        state.context.clone(),
        "event-relay",
        state.relay_bell.clone(),
        TICK,
        || {
            let (state, last_pruned) = (Arc::clone(&state), Arc::clone(&last_pruned));
            async move {
                tokio::select! {
                    report = pass(&state, &last_pruned) => report,
                    // What is on its way is published again by the next start; its id tells.
                    () = state.context.shutdown.cancelled() => PassReport::default(),
                }
            }
        },
    )
    .await;
}

async fn pass(state: &State, last_pruned: &Mutex<Option<Timestamp>>) -> PassReport {
    let now = state.context.clock.now();
    let mut last_pruned = last_pruned.lock().await;
    match Outbox::HEARTBEAT
        .relay(&state.pool, now, &mut last_pruned, |pending| publish(state, pending))
        .await
    {
        Ok(report) => {
            if report.more {
                state.relay_bell.ring();
            }
            PassReport {
                plan_size: report.published + report.failed,
                error: report.error,
            }
        }
        Err(error) => PassReport::failed(error),
    }
}

async fn publish(state: &State, pending: Pending) -> Result<(), String> {
    let Pending { event, body } = pending;
    let subject = event.subject();
    let mut headers = Headers::new();
    headers.insert(Headers::MESH_TENANT, event.tenant.as_str());
    headers.insert(Headers::MESH_ACTOR, &event.actor);
    let stored = state
        .context
        .bus
        .publish_durable(&subject, &event.id.to_string(), headers, Bytes::from(body))
        .await;
    stored.map_err(|error| error.to_string())?;
    if let Subject::Event { kind, verb, .. } = &subject {
        state
            .context
            .metrics
            .counter(MetricName::EventsPublished)
            .add(1, &[("event", &format!("{kind}.{verb}"))]);
    }
    Ok(())
}
