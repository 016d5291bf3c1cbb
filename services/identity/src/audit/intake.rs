//! Facts of other services: each write that somebody asked for is an event, committed with its change; here it becomes
//! an audit fact. What services do of their own accord is told by the journal of an invocation, or by a pass.

use std::sync::Arc;
use std::time::Duration;

use mesh_bus::{Delivery, Puller, Settled};
use mesh_types::event::Event;
use mesh_types::{Problem, Subject};

use crate::state::{State, failed};
use crate::store::audit_chain::{self as store, Told};

const BATCH: usize = 500;
const BATCH_WAIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(500);
const RETRY_IN: Duration = Duration::from_secs(1);

pub(crate) async fn run(state: Arc<State>) {
    let shutdown = state.context.shutdown.clone();
    let mut puller: Option<Puller> = None;
    while !shutdown.is_cancelled() {
        let pulled = tokio::select! {
            () = shutdown.cancelled() => break,
            pulled = pull(&state, &mut puller) => pulled,
        };
        match pulled {
            Ok(batch) => take(&state, batch).await,
            Err(error) => {
                tracing::debug!(%error, "EVENTS cannot be read; trying again");
                puller = None;
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
    }
    if let Some(puller) = puller {
        puller.close().await;
    }
}

async fn pull(state: &State, puller: &mut Option<Puller>) -> Result<Vec<Delivery>, mesh_bus::BusError> {
    let puller = match puller {
        Some(puller) => puller,
        None => puller.insert(state.context.bus.pull(mesh_bus::topology::audit()).await?),
    };
    puller.next_batch(BATCH, BATCH_WAIT).await
}

/// Kept first, then acknowledged: what is delivered again finds its row there.
async fn take(state: &State, batch: Vec<Delivery>) {
    if batch.is_empty() {
        return;
    }
    let told: Vec<Told> = batch.iter().filter_map(told).collect();
    let kept = keep(state, &told).await;
    for delivery in batch {
        let settled = if kept.is_ok() {
            Settled::Ack
        } else {
            Settled::RetryIn(RETRY_IN)
        };
        if let Err(error) = delivery.settle(settled).await {
            tracing::debug!(%error, "an event is not settled; it will come again");
        }
    }
}

async fn keep(state: &State, told: &[Told]) -> Result<(), Problem> {
    if told.is_empty() {
        return Ok(());
    }
    let doing = "keeping audit facts of other services";
    let mut tx = state.begin_for_all().await?;
    store::insert_told(&mut *tx, told).await.map_err(failed(doing))?;
    tx.commit().await.map_err(failed(doing))?;
    state.chain_bell.ring();
    Ok(())
}

/// `None` for what is no fact of the audit.
fn told(delivery: &Delivery) -> Option<Told> {
    let Ok(Subject::Event { kind, id, verb, .. }) = delivery.subject.parse() else {
        return None;
    };
    // Facts of this service are kept with their change already.
    if kind.as_str() == "audit" {
        return None;
    }
    let event: Event = match serde_json::from_slice(&delivery.payload) {
        Ok(event) => event,
        Err(error) => {
            tracing::warn!(%error, subject = delivery.subject, "an event cannot be read: it is not in the audit");
            return None;
        }
    };
    let of_its_own_accord = event.actor.starts_with("service:");
    (!of_its_own_accord).then(|| Told {
        action: format!("{kind}.{verb}"),
        subject: id.to_string(),
        event,
    })
}
