//! The loops of the service: one line and one file each.

mod embed_pending;
mod relay;

use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::run_loop;
use tokio::sync::Mutex;

use crate::state::State;

/// The bell rings at each commit; this is for what a crash left behind.
const RELAY_TICK: Duration = Duration::from_secs(30);

pub(crate) fn start(state: &Arc<State>) {
    let tasks = &state.context.tasks;
    let relay_state = Arc::clone(state);
    let pruned = Arc::new(Mutex::new(None));
    let relay = run_loop(
        state.context.clone(),
        "memory-relay",
        state.outbox_bell.clone(),
        RELAY_TICK,
        move || relay::pass(Arc::clone(&relay_state), Arc::clone(&pruned)),
    );
    tasks.spawn("memory-relay", relay);
    let embed_state = Arc::clone(state);
    let tick = Duration::from_millis(state.config.embed_tick_ms);
    let embed = run_loop(
        state.context.clone(),
        "memory-embed",
        state.embed_bell.clone(),
        tick,
        move || embed_pending::pass(Arc::clone(&embed_state)),
    );
    tasks.spawn("memory-embed", embed);
}
