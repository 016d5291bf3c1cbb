//! `heartbeat`: what is seen of nodes: presence, health, replicas. What they say is kept in memory, the newest of each,
//! and written in batches; a node that falls silent is noticed by its key in `PRESENCE`, which expires.

mod audit;
mod bus;
mod config;
mod directory;
mod figures;
mod flush;
mod ingest;
mod modes;
mod nodes;
mod presence;
mod report;
mod silence;
mod state;
mod store;

use std::sync::Arc;
use std::time::Duration;

use mesh_bus::BusError;
use mesh_runtime::{Context, Doorbell, Validate, health, run_loop};
use mesh_store::{Outbox, Role, StoreError, StoreOptions};
use tokio::sync::mpsc;

pub use config::Config;

use audit::Audit;
use state::State;

/// How long requests in hand may take after the shutdown.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("configuration of heartbeat: {0}")]
    Config(String),
    #[error("the database of heartbeat: {0}")]
    Store(#[from] StoreError),
    #[error("the endpoints of heartbeat: {0}")]
    Bus(#[from] BusError),
}

/// Serves until `context.shutdown`; waits for the database and its schema first, for ever.
pub async fn run(config: Config, context: Context) -> Result<(), Error> {
    config.validate().map_err(Error::Config)?;
    let options = StoreOptions {
        url: config.database.url.expose().clone(),
        role: Role::Heartbeat,
        connections_max: config.database.connections,
    };
    let pool = mesh_store::connect(&options).await?;
    context
        .metrics
        .observe_pool(options.role.name(), mesh_store::usage(&pool));
    let probe = mesh_store::probe(&pool);
    context.health.register_with(health::DATABASE, move || probe());
    tokio::select! {
        () = mesh_store::wait_ready(&pool) => {}
        () = context.shutdown.cancelled() => return Ok(()),
    }
    let (key_writes, keys) = mpsc::channel(presence::WAITING_MAX);
    let (audit, notes) = Audit::new();
    let state = Arc::new(State::new(config, context.clone(), pool.clone(), key_writes, audit));
    let tasks = &context.tasks;
    tasks.spawn("presence-writes", presence::write(Arc::clone(&state), keys));
    tasks.spawn("presence-watch", presence::watch(Arc::clone(&state)));
    tasks.spawn("audit-notes", audit::send(Arc::clone(&state), notes));
    tasks.spawn("suspects", silence::wake(Arc::clone(&state)));
    tasks.spawn("figures", figures::watch(Arc::clone(&state)));
    let relay = mesh_outbox::relay(
        Outbox::HEARTBEAT,
        pool.clone(),
        context.clone(),
        state.relay_bell.clone(),
    );
    tasks.spawn("event-relay", relay);
    let events = context.bus.subscribe(&directory::events()).await?;
    tasks.spawn("directory-events", directory::hear(Arc::clone(&state), events));
    start_loops(&state);
    let ears = ingest::open(&state).await?;
    ingest::start(&state, ears);
    let serving = bus::serve(&state).await?;
    context.shutdown.cancelled().await;
    serving.drain(DRAIN).await;
    context.tasks.drain(DRAIN).await;
    // What was heard last; without the database it is heard again.
    let last = tokio::time::timeout(DRAIN, flush::write_all(&state)).await;
    if last.is_ok_and(|report| report.error.is_some()) {
        tracing::warn!("the last reports of nodes are not written");
    }
    pool.close().await;
    Ok(())
}

/// The loops of the service: one line each.
fn start_loops(state: &Arc<State>) {
    let ms = Duration::from_millis;
    let config = &state.config;
    let swept = Arc::default();
    let sweep = move |state| silence::pass(state, Arc::clone(&swept));
    spawn(
        state,
        "heartbeat-flush",
        Doorbell::new(),
        ms(config.flush_ms),
        flush::pass,
    );
    spawn(
        state,
        "heartbeat-silence",
        state.suspects.bell.clone(),
        ms(config.sweep_ms),
        sweep,
    );
    spawn(
        state,
        "heartbeat-directory",
        state.directory.bell.clone(),
        ms(config.directory_ms),
        directory::pass,
    );
    spawn(
        state,
        "heartbeat-modes",
        state.modes.bell.clone(),
        ms(config.directory_ms),
        modes::pass,
    );
}

fn spawn<P, F>(state: &Arc<State>, name: &'static str, bell: Doorbell, tick: Duration, pass: P)
where
    P: Fn(Arc<State>) -> F + Send + Sync + 'static,
    F: Future<Output = mesh_runtime::PassReport> + Send + 'static,
{
    let own = Arc::clone(state);
    let run = async move {
        let pass = || pass(Arc::clone(&own));
        run_loop(own.context.clone(), name, bell, tick, pass).await;
    };
    state.context.tasks.spawn(name, run);
}
