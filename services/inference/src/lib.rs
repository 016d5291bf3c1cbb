//! inference: the way to models. Providers with their keys, fallbacks, streams, usage; no database.

mod breaker;
mod bus;
mod cache;
mod calls;
mod chain;
mod config;
mod governor;
mod limits;
mod mock;
mod prices;
mod provider;
mod providers;
mod state;
mod structured;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use mesh_runtime::{Context, Validate};

pub use config::{
    ANTHROPIC_BASE_URL, BreakerRules, CacheRules, Config, Limits, OPENAI_BASE_URL, Price, ProviderConfig, ProviderKind,
    Rates, RouteRule, StructuredOutput,
};
pub use mock::{Counted, Fail, Offered, SCRIPT_PREFIX, Script, ToolCall, Turn};

use cache::Cache;
use governor::Governor;
use providers::Providers;
use state::State;

/// How long calls in hand may take once the service stops; a call that is cut is made again by who asked.
const DRAIN: Duration = Duration::from_secs(8);
/// How long usage events may take after that.
const LAST_USES: Duration = Duration::from_secs(3);

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
    let governor = Governor::new(&config, Arc::clone(&context.clock), &context.metrics);
    let (usage, uses) = usage::Publisher::new(&config, &context);
    let state = Arc::new(State {
        calls: Arc::new(calls::Calls::new(&config.limits)),
        cache: Cache::new(config.cache.clone()),
        governor: governor.clone(),
        usage,
        config,
        context,
        providers,
    });
    let publishing = std::pin::pin!(uses.publish());
    let mut publishing = publishing.fuse();
    let served = tokio::select! {
        served = serve(&state) => served,
        () = governor.keep_time() => Ok(()),
        () = &mut publishing => Ok(()),
    };
    state.usage.close();
    if tokio::time::timeout(LAST_USES, publishing).await.is_err() {
        tracing::warn!("usage events were left behind; the journal has the usage of their steps");
    }
    served
}

async fn serve(state: &Arc<State>) -> Result<(), Error> {
    let shutdown = state.context.shutdown.clone();
    let handle = tokio::select! {
        handle = bus::serve(state) => handle.map_err(Error::Bus)?,
        () = shutdown.cancelled() => return Ok(()),
    };
    shutdown.cancelled().await;
    handle.drain(DRAIN).await;
    Ok(())
}
