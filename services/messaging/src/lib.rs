//! `messaging`: channels and their messages.

mod bus;
mod config;
mod messages;
mod state;
mod store;

use std::sync::Arc;
use std::time::Duration;

use mesh_bus::BusError;
use mesh_runtime::{Context, Doorbell, health};
use mesh_store::{Outbox, Role, StoreError, StoreOptions};

pub use config::Config;

use state::State;

/// How long requests in hand may take after the shutdown.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the database of messaging: {0}")]
    Store(#[from] StoreError),
    #[error("the endpoints of messaging: {0}")]
    Bus(#[from] BusError),
}

/// Serves until `context.shutdown`; waits for the database and its schema first, for ever.
pub async fn run(config: Config, context: Context) -> Result<(), Error> {
    let options = StoreOptions {
        url: config.database.url.expose().clone(),
        role: Role::Messaging,
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
    let state = Arc::new(State {
        config,
        context: context.clone(),
        pool: pool.clone(),
        relay_bell: Doorbell::new(),
    });
    let relay = mesh_outbox::relay(
        Outbox::MESSAGING,
        pool.clone(),
        context.clone(),
        state.relay_bell.clone(),
    );
    context.tasks.spawn("event-relay", relay);
    let service = context.bus.service("messaging", env!("CARGO_PKG_VERSION"));
    let serving = bus::serve(service, &state).start().await?;
    context.shutdown.cancelled().await;
    serving.drain(DRAIN).await;
    context.tasks.drain(DRAIN).await;
    pool.close().await;
    Ok(())
}
