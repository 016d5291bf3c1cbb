//! memory: what agents remember. Stores, finds and forgets; vectors and words in Postgres, one tenant at a time.

mod bus;
mod config;
pub mod embed;
mod loops;
mod request;
mod state;
mod store;

use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::{Context, Doorbell, Validate, health};
use mesh_store::{Role, StoreOptions};

pub use config::{Config, EmbedderKind};
pub use request::{CONTENT_BYTES_MAX, HITS_MAX, METADATA_BYTES_MAX};

use embed::{Embedder, HashEmbedder};
use state::State;

/// How long requests in hand may take once the service stops.
const DRAIN: Duration = Duration::from_secs(8);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("configuration of memory: {0}")]
    Config(String),
    #[error("opening the store of memory")]
    Store(#[source] mesh_store::StoreError),
    #[error("serving the endpoints of memory")]
    Bus(#[source] mesh_bus::BusError),
}

/// Serves until the context's shutdown, with the embedder that the configuration names.
pub async fn run(config: Config, context: Context) -> Result<(), Error> {
    let embedder: Arc<dyn Embedder> = match config.embedder {
        EmbedderKind::Hash => Arc::new(HashEmbedder::new(context.blocking.clone())),
    };
    run_with(config, context, embedder).await
}

/// As [`run`], with another embedder.
pub async fn run_with(config: Config, context: Context, embedder: Arc<dyn Embedder>) -> Result<(), Error> {
    config.validate().map_err(Error::Config)?;
    if config.embedding_api_url.is_some() {
        tracing::warn!(
            embedder = embedder.model(),
            "`embedding_api_url` is set, but this version does not ask it"
        );
    }
    let options = StoreOptions {
        url: config.database.url.expose().clone(),
        role: Role::Memory,
        connections_max: config.database.connections,
    };
    let pool = mesh_store::connect(&options).await.map_err(Error::Store)?;
    let probe = mesh_store::probe(&pool);
    context.health.register_with(health::DATABASE, move || probe());
    let shutdown = context.shutdown.clone();
    tokio::select! {
        () = mesh_store::wait_ready(&pool) => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    let state = Arc::new(State {
        config,
        context,
        pool,
        embedder,
        outbox_bell: Doorbell::new(),
        embed_bell: Doorbell::new(),
    });
    loops::start(&state);
    let handle = tokio::select! {
        handle = bus::serve(&state) => handle.map_err(Error::Bus)?,
        () = shutdown.cancelled() => return Ok(()),
    };
    shutdown.cancelled().await;
    handle.drain(DRAIN).await;
    state.context.tasks.drain(DRAIN).await;
    state.pool.close().await;
    Ok(())
}
