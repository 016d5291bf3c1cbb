//! `execution`: invocations and their journal. The protocol of record is EXECUTION.md; the map of this crate:
//! `core` decides purely, `lane` commits what was decided, `steward` owns shards, `relay` tells the world,
//! `router` brings requests to their owner, `intake` reads the durable inbox, `worker` runs hosted work,
//! `store` holds all SQL, `bus` the endpoints, `parts` wires it together and stops it in order.

mod agents;
mod bus;
mod config;
mod core;
mod directory;
mod figures;
mod fleet;
mod history;
mod hosted;
mod housekeeping;
mod intake;
mod lane;
mod nodes;
mod parts;
mod planted;
mod post;
mod relay;
mod request;
mod router;
mod shards;
#[cfg(test)]
mod sim;
mod state;
mod steps;
mod steward;
mod store;
mod tickets;
mod traced;
mod worker;

use mesh_bus::BusError;
use mesh_runtime::{Context, health};
use mesh_store::{Role, StoreError, StoreOptions};
use mesh_types::Problem;
use sqlx::PgPool;

pub use config::Config;
pub use shards::{SHARDS, ShardId, shard_of};
pub use steward::Namesake;

use crate::parts::Parts;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the database of execution: {0}")]
    Store(#[from] StoreError),
    #[error("the endpoints of execution: {0}")]
    Bus(#[from] BusError),
    #[error("an endpoint of execution: {0}")]
    Endpoint(#[from] Problem),
    #[error(transparent)]
    Namesake(#[from] Namesake),
    #[error("a lane, the relay or the steward of execution ended; the log says why")]
    Broken,
}

/// Serves until `context.shutdown`; waits for the database and its schema first, for ever.
pub async fn run(config: Config, context: Context) -> Result<(), Error> {
    let config = config.named();
    let lanes_max = u32::try_from(config.lanes).unwrap_or(2);
    let pool = connect(&config, Role::Execution, config.database.connections + lanes_max).await?;
    let readers = connect(&config, Role::ExecutionReader, config.database.connections).await?;
    for (role, pool) in [(Role::Execution, &pool), (Role::ExecutionReader, &readers)] {
        context.metrics.observe_pool(role.name(), mesh_store::usage(pool));
    }
    let probe = mesh_store::probe(&readers);
    context.health.register_with(health::DATABASE, move || probe());
    tokio::select! {
        () = mesh_store::wait_ready(&pool) => {}
        () = context.shutdown.cancelled() => return Ok(()),
    }
    let parts = Parts::new(config, &context, pool, readers);
    parts.serve(context).await
}

async fn connect(config: &Config, role: Role, connections_max: u32) -> Result<PgPool, StoreError> {
    let url = config.database.url.expose().clone();
    mesh_store::connect(&StoreOptions {
        url,
        role,
        connections_max,
    })
    .await
}
