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

pub(super) async fn run(state: Arc<State>) {
    let last_pruned = Arc::new(Mutex::new(None));
    let pass = || {
        let (state, last_pruned) = (Arc::clone(&state), Arc::clone(&last_pruned));
        async move {
            tokio::select! {
                report = pass(&state, &last_pruned) => report,
                // What is on its way is published again by the next start; its id tells.
                () = state.context.shutdown.cancelled() => PassReport::default(),
            }
        }
    };
    run_loop(
        state.context.clone(),
        "event-relay",
        state.relay_bell.clone(),
        TICK,
        pass,
    )
    .await;
}

async fn pass(state: &State, last_pruned: &Mutex<Option<Timestamp>>) -> PassReport {
    let now = state.context.clock.now();
    let mut last_pruned = last_pruned.lock().await;
    let publish = |pending| publish(state, pending);
    let relayed = Outbox::RECONCILER.relay(&state.pool, now, &mut last_pruned, publish);
    match relayed.await {
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
    let id = event.id.to_string();
    let stored = state
        .context
        .bus
        .publish_durable(&subject, &id, headers, Bytes::from(body))
        .await;
    stored.map_err(|error| error.to_string())?;
    if let Subject::Event { kind, verb, .. } = &subject {
        let published = state.context.metrics.counter(MetricName::EventsPublished);
        published.add(1, &[("event", &format!("{kind}.{verb}"))]);
    }
    Ok(())
}
