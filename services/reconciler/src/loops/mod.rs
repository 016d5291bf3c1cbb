//! The loops of the service: one line and one file each.

mod bells;
mod demand;
mod passes;
mod services;

use std::sync::Arc;

use mesh_store::Outbox;

use crate::state::State;
use crate::{leader, shown};

pub(crate) fn start(state: &Arc<State>) {
    let tasks = &state.context.tasks;
    tasks.spawn("leader", leader::run(Arc::clone(state)));
    tasks.spawn("passes", passes::run(Arc::clone(state)));
    tasks.spawn("alarm", passes::alarm(Arc::clone(state)));
    tasks.spawn("news", bells::gather(Arc::clone(state)));
    tasks.spawn("bells", bells::events(Arc::clone(state)));
    tasks.spawn("presence", bells::presence(Arc::clone(state)));
    tasks.spawn("shown", shown::watch(Arc::clone(state)));
    tasks.spawn("services", services::run(Arc::clone(state)));
    tasks.spawn("demand", demand::run(Arc::clone(state)));
    let (pool, context, bell) = (state.pool.clone(), state.context.clone(), state.relay_bell.clone());
    tasks.spawn(
        "event-relay",
        mesh_outbox::relay(Outbox::RECONCILER, pool, context, bell),
    );
}
