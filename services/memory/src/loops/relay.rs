//! Publishes committed facts.

use std::sync::Arc;

use mesh_bus::Headers;
use mesh_runtime::{MetricName, PassReport};
use mesh_store::{Outbox, Pending};
use mesh_types::Timestamp;
use tokio::sync::Mutex;

use crate::state::State;

pub(super) async fn pass(state: Arc<State>, pruned: Arc<Mutex<Option<Timestamp>>>) -> PassReport {
    let mut pruned = pruned.lock().await;
    let publish = |pending| publish(Arc::clone(&state), pending);
    match Outbox::MEMORY
        .relay(&state.pool, state.now(), &mut pruned, publish)
        .await
    {
        Ok(report) => {
            if report.more {
                state.outbox_bell.ring();
            }
            PassReport {
                plan_size: report.published,
                error: report.error,
            }
        }
        Err(error) => PassReport::failed(error),
    }
}

async fn publish(state: Arc<State>, pending: Pending) -> Result<(), String> {
    let Pending { event, body } = pending;
    let bus = &state.context.bus;
    let stored = bus
        .publish_durable(&event.subject(), &event.id.to_string(), Headers::default(), body.into())
        .await;
    stored.map_err(|error| error.to_string())?;
    let verb = match event.fact {
        mesh_types::event::Fact::MemoryForgotten { .. } => "memory.forgotten",
        _ => "memory.stored",
    };
    state
        .context
        .metrics
        .counter(MetricName::EventsPublished)
        .add(1, &[("event", verb)]);
    Ok(())
}
