//! How old the oldest heartbeat is among the nodes that count as online, for `/metrics`. Every process says the same.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_runtime::MetricName;

use crate::state::State;
use crate::store::life;

const EVERY: Duration = Duration::from_secs(5);

pub(crate) async fn watch(state: Arc<State>) {
    let age: Arc<Mutex<Option<Duration>>> = Arc::default();
    let read = Arc::downgrade(&age);
    state.context.metrics.observe(MetricName::HeartbeatAge, move |told| {
        let age = read.upgrade();
        let age = age.and_then(|age| *age.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(age) = age {
            told.count(age.as_secs(), &[]);
        }
    });
    loop {
        let oldest = tokio::select! {
            oldest = life::oldest_beat(&state.pool) => oldest,
            () = state.context.shutdown.cancelled() => return,
        };
        let oldest = oldest.unwrap_or_else(|error| {
            tracing::debug!(%error, "the oldest heartbeat is not known now");
            None
        });
        *age.lock().unwrap_or_else(PoisonError::into_inner) = oldest.map(|at| state.now().since(at));
        tokio::select! {
            () = state.context.shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
