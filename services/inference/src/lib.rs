//! inference: the way to models. Providers with their keys, fallbacks, streams, usage; no database.

mod bus;
mod calls;
mod chain;
mod config;
mod mock;
mod providers;
mod state;

use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::{Context, Validate};

pub use config::{Config, Limits, OPENAI_BASE_URL, Price, ProviderConfig, ProviderKind, RouteRule};
pub use mock::{Counted, Fail, Offered, SCRIPT_PREFIX, Script, ToolCall, Turn};

use providers::Providers;
use state::State;

/// How long calls in hand may take once the service stops; a call that is cut is made again by who asked.
const DRAIN: Duration = Duration::from_secs(8);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("configuration of inference: {0}")]
    Config(String),
    #[error("making an HTTP client for a provider")]
    Client(#[source] reqwest::Error),
    #[error("serving the endpoints of inference")]
    Bus(#[source] mesh_bus::BusError),
}

/// Serves until the context's shutdown.
pub async fn run(config: Config, context: Context) -> Result<(), Error> {
    config.validate().map_err(Error::Config)?;
    let providers = Providers::new(&config)?;
    let calls = Arc::new(calls::Calls::new(&config.limits));
    let shutdown = context.shutdown.clone();
    let state = Arc::new(State {
        config,
        context,
        providers,
        calls,
    });
    let handle = tokio::select! {
        handle = bus::serve(&state) => handle.map_err(Error::Bus)?,
        () = shutdown.cancelled() => return Ok(()),
    };
    shutdown.cancelled().await;
    handle.drain(DRAIN).await;
    Ok(())
}
