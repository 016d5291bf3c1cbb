//! memory: what agents remember. Stores, finds and forgets; vectors and words in Postgres, one tenant at a time.

mod bus;
mod config;
pub mod embed;
mod knowledge;
mod loops;
mod question;
mod rank;
mod request;
mod same;
mod specs;
mod state;
mod store;

use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::{Context, Doorbell, Validate, health};
use mesh_store::{Role, StoreOptions};

pub use config::{Config, EmbedderKind};
pub use request::{CONTENT_BYTES_MAX, HITS_MAX, METADATA_BYTES_MAX};

use embed::Embedder;
use embed::cache::Cache;
use state::{EmbedHealth, Figures, State};
use store::search::Searches;

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
    config.validate().map_err(Error::Config)?;
    let embedder = embed::open(&config, &context).map_err(Error::Config)?;
    run_with(config, context, embedder).await
}

/// As [`run`], with another embedder.
pub async fn run_with(config: Config, context: Context, embedder: Arc<dyn Embedder>) -> Result<(), Error> {
    config.validate().map_err(Error::Config)?;
    let options = StoreOptions {
        url: config.database.url.expose().clone(),
        role: Role::Memory,
        connections_max: config.database.connections,
    };
    let pool = mesh_store::connect(&options).await.map_err(Error::Store)?;
    context
        .metrics
        .observe_pool(options.role.name(), mesh_store::usage(&pool));
    let probe = mesh_store::probe(&pool);
    context.health.register_with(health::DATABASE, move || probe());
    let shutdown = context.shutdown.clone();
    tokio::select! {
        () = mesh_store::wait_ready(&pool) => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    let connections = config.database.connections;
    let searches = Searches::new(&pool, connections, config.exact_rows_max, config.kept_vectors_bytes);
    let state = Arc::new(State {
        searches,
        embed_cache: Cache::new(config.embed_cache_bytes),
        embed_health: EmbedHealth::default(),
        figures: Figures::new(&context.metrics),
        config,
        context,
        pool,
        embedder,
        outbox_bell: Doorbell::new(),
        embed_bell: Doorbell::new(),
        reembed_bell: Doorbell::new(),
        expire_bell: Doorbell::new(),
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
