//! The loops of the service: one line and one file each.

pub(crate) mod consolidate;
mod embed_pending;
mod expire;
mod keep;
mod reembed;

use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::{Doorbell, run_loop};
use mesh_store::Outbox;

use crate::specs::Specs;
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
    start_reembedding(state);
    start_expiry(state);
    start_consolidation(state);
    start_keeping(state);
}

fn start_reembedding(state: &Arc<State>) {
    let (loop_state, seen) = (Arc::clone(state), Arc::new(reembed::Seen::default()));
    let reembed = run_loop(
        state.context.clone(),
        "memory-reembed",
        state.reembed_bell.clone(),
        Duration::from_millis(state.config.reembed_tick_ms),
        move || reembed::pass(Arc::clone(&loop_state), Arc::clone(&seen)),
    );
    state.context.tasks.spawn("memory-reembed", reembed);
}

fn start_expiry(state: &Arc<State>) {
    let tasks = &state.context.tasks;
    let (next, alarm) = tokio::sync::watch::channel(None);
    let (next, expire_state) = (Arc::new(next), Arc::clone(state));
    let expire = run_loop(
        state.context.clone(),
        "memory-expire",
        state.expire_bell.clone(),
        state.config.expire_tick(),
        move || expire::pass(Arc::clone(&expire_state), Arc::clone(&next)),
    );
    tasks.spawn("memory-expire", expire);
    tasks.spawn("memory-expire-alarm", expire::alarm(Arc::clone(state), alarm));
}

fn start_consolidation(state: &Arc<State>) {
    let (loop_state, specs) = (Arc::clone(state), Specs::new(&state.context));
    let consolidate = run_loop(
        state.context.clone(),
        "memory-consolidate",
        Doorbell::new(),
        state.config.consolidate_tick(),
        move || consolidate::pass(Arc::clone(&loop_state), Arc::clone(&specs)),
    );
    state.context.tasks.spawn("memory-consolidate", consolidate);
}

fn start_keeping(state: &Arc<State>) {
    let loop_state = Arc::clone(state);
    let keep = run_loop(
        state.context.clone(),
        "memory-keep",
        state.searches.kept_bell(),
        keep::TICK,
        move || keep::pass(Arc::clone(&loop_state)),
    );
    state.context.tasks.spawn("memory-keep", keep);
    let pool = state.pool.clone();
    let prune = run_loop(
        state.context.clone(),
        "memory-prune",
        Doorbell::new(),
        keep::PRUNE_TICK,
        move || keep::prune(pool.clone()),
    );
    state.context.tasks.spawn("memory-prune", prune);
}
