//! `heartbeat`: what is seen of nodes: presence, health, replicas.

mod config;

use std::time::Duration;

use mesh_bus::BusError;
use mesh_runtime::{Context, health};
use mesh_store::{Role, StoreError, StoreOptions};

pub use config::Config;

/// How long requests in hand may take after the shutdown.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the database of heartbeat: {0}")]
    Store(#[from] StoreError),
    #[error("the endpoints of heartbeat: {0}")]
    Bus(#[from] BusError),
}

/// Serves until `context.shutdown`; waits for the database and its schema first, for ever.
pub async fn run(config: Config, context: Context) -> Result<(), Error> {
    let options = StoreOptions {
        url: config.database.url.expose().clone(),
        role: Role::Heartbeat,
        connections_max: config.database.connections,
    };
    let pool = mesh_store::connect(&options).await?;
    let probe = mesh_store::probe(&pool);
    context.health.register_with(health::DATABASE, move || probe());
    tokio::select! {
        () = mesh_store::wait_ready(&pool) => {}
        () = context.shutdown.cancelled() => return Ok(()),
    }
    let service = context.bus.service("heartbeat", env!("CARGO_PKG_VERSION"));
    let serving = service.start().await?;
    context.shutdown.cancelled().await;
    serving.drain(DRAIN).await;
    context.tasks.drain(DRAIN).await;
    pool.close().await;
    Ok(())
}
