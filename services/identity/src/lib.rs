//! `identity`: people and their sign-ins, credentials, NATS users of nodes, and the audit facts.

mod audit;
mod bus;
mod callout;
mod config;
mod credential;
mod forgotten;
mod made;
mod people;
mod providers;
mod refusals;
mod state;
mod store;
mod sweep;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use mesh_bus::{Bus, BusError, BusOptions};
use mesh_runtime::{Context, Doorbell, health};
use mesh_store::{Outbox, Role, StoreError, StoreOptions};

pub use config::Config;
pub use made::{nats_issuer_key, nats_issuer_seed, random_password};
pub use providers::{Allow, Kind as ProviderKind, Provider};

use callout::{Connections, Issuer};
use state::State;

/// How long requests in hand may take after the shutdown.
const DRAIN: Duration = Duration::from_secs(5);
/// Passwords that are looked at, or wait for that; one more is refused as busy.
const PASSWORDS_MAX: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the database of identity: {0}")]
    Store(#[from] StoreError),
    #[error("the endpoints of identity: {0}")]
    Bus(#[from] BusError),
    #[error("the configuration of identity: {0}")]
    Config(String),
}

/// Serves until `context.shutdown`; waits for the database and its schema first, for ever.
pub async fn run(config: Config, context: Context) -> Result<(), Error> {
    let options = StoreOptions {
        url: config.database.url.expose().clone(),
        role: Role::Identity,
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
    if config.require_credentials && config.nats_issuer_seed.is_empty() {
        tracing::warn!(
            "credentials are demanded, but `identity.nats_issuer_seed` is empty: nodes get no NATS users from here, and \
             who may connect to nats-server is its own configuration's to say"
        );
    }
    let state = Arc::new(State {
        issuer: issuer(&config)?,
        system: system(&config, &context).await?,
        config,
        context: context.clone(),
        pool: pool.clone(),
        relay_bell: Doorbell::new(),
        chain_bell: Doorbell::new(),
        refusals: std::sync::Mutex::default(),
        connections: Connections::default(),
        keyring: people::keyring::Keyring::default(),
        password_places: tokio::sync::Semaphore::new(PASSWORDS_MAX),
    });
    let relay = mesh_outbox::relay(
        Outbox::IDENTITY,
        pool.clone(),
        context.clone(),
        state.relay_bell.clone(),
    );
    context.tasks.spawn("event-relay", relay);
    context
        .tasks
        .spawn("audit-intake", audit::intake::run(Arc::clone(&state)));
    context.tasks.spawn("audit-chain", audit::link::run(Arc::clone(&state)));
    context.tasks.spawn("sign-in-sweep", sweep::run(Arc::clone(&state)));
    context.tasks.spawn("refusals", refusals::run(Arc::clone(&state)));
    context
        .tasks
        .spawn("forgotten-nodes", forgotten::run(Arc::clone(&state)));
    context
        .tasks
        .spawn("forgotten-sweep", forgotten::sweep(Arc::clone(&state)));
    let service = context.bus.service("identity", env!("CARGO_PKG_VERSION"));
    let serving = bus::serve(service, &state).start().await?;
    context.shutdown.cancelled().await;
    serving.drain(DRAIN).await;
    context.tasks.drain(DRAIN).await;
    pool.close().await;
    Ok(())
}

fn issuer(config: &Config) -> Result<Option<Issuer>, Error> {
    let seed = &config.nats_issuer_seed;
    if seed.is_empty() {
        return Ok(None);
    }
    Issuer::new(seed, &config.nats_account).map(Some).map_err(Error::Config)
}

/// A connection to the server's system account, where it is configured.
async fn system(config: &Config, context: &Context) -> Result<Option<Bus>, Error> {
    let Some((user, password)) = config.nats_system.expose().split_once(':') else {
        return Ok(None);
    };
    let options = BusOptions {
        name: "mesh-identity-system".into(),
        user: Some((user.to_owned(), password.to_owned())),
        ..context.bus.options().clone()
    };
    Ok(Some(Bus::connect(options).await?))
}
