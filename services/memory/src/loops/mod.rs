//! The loops of the service: one line and one file each.

mod embed_pending;

use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::run_loop;
use mesh_store::Outbox;

use crate::state::State;

pub(crate) fn start(state: &Arc<State>) {
    let tasks = &state.context.tasks;
    let (pool, context, bell) = (state.pool.clone(), state.context.clone(), state.outbox_bell.clone());
    tasks.spawn("event-relay", mesh_outbox::relay(Outbox::MEMORY, pool, context, bell));
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
