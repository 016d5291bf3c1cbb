//! `reconciler`: desired against observed: assignments, passes, and their reasons.

mod brain;
mod bus;
mod config;
mod core;
mod figures;
mod leader;
mod loops;
mod observe;
mod shown;
mod sight;
mod state;
mod store;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use mesh_bus::BusError;
use mesh_runtime::{Context, health};
use mesh_store::{Role, StoreError, StoreOptions};

pub use config::Config;
pub use core::bench::{PlanTimes, plan_times};

use state::State;

/// How long requests in hand may take after the shutdown.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the database of reconciler: {0}")]
    Store(#[from] StoreError),
    #[error("the endpoints of reconciler: {0}")]
    Bus(#[from] BusError),
}

/// Serves until `context.shutdown`; waits for the database and its schema first, for ever.
pub async fn run(config: Config, context: Context) -> Result<(), Error> {
    let options = StoreOptions {
        url: config.database.url.expose().clone(),
        role: Role::Reconciler,
        connections_max: config.database.connections,
    };
    let pool = mesh_store::connect(&options).await?;
    context
        .metrics
        .observe_pool(options.role.name(), mesh_store::usage(&pool));
    let probe = mesh_store::probe(&pool);
    context.health.register_with(health::DATABASE, move || probe());
    watch::start(&context, &pool);
    tokio::select! {
        () = mesh_store::wait_ready(&pool) => {}
        () = context.shutdown.cancelled() => return Ok(()),
    }
    let state = Arc::new(State::new(config, context.clone(), pool.clone()));
    let service = context.bus.service("reconciler", env!("CARGO_PKG_VERSION"));
    let serving = bus::serve(service, &state).start().await?;
    figures::observe(&state);
    loops::start(&state);
    context.shutdown.cancelled().await;
    serving.drain(DRAIN).await;
    context.tasks.drain(DRAIN).await;
    leader::resign(&state).await;
    pool.close().await;
    Ok(())
}
