//! `execution`: invocations and their journal. The protocol of record is EXECUTION.md; the map of this crate:
//! `core` decides purely, `lane` commits what was decided, `steward` owns shards, `relay` tells the world,
//! `router` brings requests to their owner, `intake` reads the durable inbox, `worker` runs hosted work,
//! `store` holds all SQL, `bus` the endpoints.

mod agents;
mod bus;
mod config;
mod core;
mod hosted;
mod intake;
mod lane;
mod relay;
mod request;
mod router;
mod shards;
mod state;
mod steward;
mod store;
mod worker;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mesh_bus::BusError;
use mesh_runtime::{Context, health};
use mesh_store::{Role, StoreError, StoreOptions};
use mesh_types::Problem;
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use shards::{SHARDS, ShardId, shard_of};
pub use steward::Namesake;

use crate::agents::Agents;
use crate::core::Holder;
use crate::hosted::Slots;
use crate::intake::Intake;
use crate::lane::command::LaneHandle;
use crate::lane::{Lane, LaneContext};
use crate::relay::{Adopted, Committed, Marks, Relay};
use crate::router::Router;
use crate::state::State;
use crate::steward::{Directory, HandOver, Steward};
use crate::worker::Hosted;

/// Streamed tokens on their way to NATS.
const TOKENS_QUEUED_MAX: usize = 4_096;
/// Calls that are worked on at the same time; each waits for an end and holds little.
const CALLS_MAX: usize = 8_192;
const SETTLE: Duration = Duration::from_secs(5);
const DRAIN_POLL: Duration = Duration::from_millis(50);
const PARTITIONS_EVERY: Duration = Duration::from_secs(6 * 3_600);

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
}

/// Serves until `context.shutdown`; waits for the database and its schema first, for ever.
pub async fn run(config: Config, context: Context) -> Result<(), Error> {
    let lanes_max = u32::try_from(config.lanes).unwrap_or(2);
    let pool = connect(&config, Role::Execution, config.database.connections + lanes_max).await?;
    let readers = connect(&config, Role::ExecutionReader, config.database.connections).await?;
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
    mesh_store::connect(&StoreOptions { url, role, connections_max }).await
}

/// Everything wired together, before it runs.
struct Parts {
    state: Arc<State>,
    steward: Steward,
    relay: Relay,
    lanes: Vec<Lane>,
    tokens: mpsc::Receiver<(mesh_types::Subject, mesh_api::journal::TokenChunk)>,
    agents: Arc<Agents>,
    draining: CancellationToken,
    stop_lanes: CancellationToken,
    stop_relay: CancellationToken,
    stop_steward: CancellationToken,
}

impl Parts {
    fn new(config: Config, context: &Context, pool: PgPool, readers: PgPool) -> Self {
        let instance: Arc<str> = config.instance.as_str().into();
        let (handles, receivers): (Vec<_>, Vec<_>) = (0..config.lanes).map(|_| LaneHandle::new()).unzip();
        let (relay_sender, committed) = mpsc::channel::<Committed>(relay::QUEUE_BATCHES);
        let (adopted_sender, adopted) = mpsc::unbounded_channel::<Adopted>();
        let (hand_overs, asked) = mpsc::unbounded_channel::<HandOver>();
        let (tokens_sender, tokens) = mpsc::channel(TOKENS_QUEUED_MAX);
        let (draining, stop_lanes) = (CancellationToken::new(), CancellationToken::new());
        let (stop_relay, stop_steward) = (CancellationToken::new(), CancellationToken::new());
        let directory = Directory::new();
        let marks = Arc::new(Marks::default());
        let agents = Agents::new(context.clone());
        let slots = Slots::new(config.hosted_slots);
        slots.ring_lanes(handles.iter().map(|lane| lane.commands.clone()).collect());
        let hosted = Arc::new(Hosted {
            context: context.clone(),
            agents: Arc::clone(&agents),
            pool: pool.clone(),
            lanes: handles.clone(),
            tokens: tokens_sender,
        });
        // Grows with each start: nothing of an earlier one is taken for ours.
        let incarnation = context.clock.now().as_millis();
        let lanes = receivers
            .into_iter()
            .zip(&handles)
            .map(|(receiver, handle)| {
                let (hosted, directory) = (Arc::clone(&hosted), Arc::clone(&directory));
                let context = LaneContext {
                    pool: pool.clone(),
                    clock: Arc::clone(&context.clock),
                    holder: Holder { node: Arc::clone(&instance), incarnation },
                    slots: Arc::clone(&slots),
                    start: Box::new(move |start| hosted.start(start)),
                    relay: relay_sender.clone(),
                    lost: Box::new(move |shard| directory.lost(shard)),
                    relayed: Arc::clone(&marks),
                    draining: draining.clone(),
                    stop: stop_lanes.clone(),
                    abort_after_seq: config.abort_after_seq,
                };
                Lane::new(context, handle.clone(), receiver)
            })
            .collect();
        let router = Arc::new(Router {
            context: context.clone(),
            agents: Arc::clone(&agents),
            lanes: handles.clone(),
            directory: Arc::clone(&directory),
            readers: readers.clone(),
        });
        let steward = Steward {
            context: context.clone(),
            stop: stop_steward.clone(),
            pool: pool.clone(),
            instance,
            lanes: handles.clone(),
            directory: Arc::clone(&directory),
            marks: Arc::clone(&marks),
            adopted: adopted_sender,
            held: HashMap::new(),
            seen: HashMap::new(),
            stolen: Vec::new(),
            asked,
        };
        let relay = Relay {
            bus: context.bus.clone(),
            pool: pool.clone(),
            marks: Arc::clone(&marks),
            committed,
            adopted,
            stop: stop_relay.clone(),
            marked: HashMap::new(),
        };
        let state = Arc::new(State {
            config,
            context: context.clone(),
            router,
            directory,
            lanes: handles,
            marks,
            slots,
            pool,
            readers,
            hand_overs,
        });
        Self { state, steward, relay, lanes, tokens, agents, draining, stop_lanes, stop_relay, stop_steward }
    }

    async fn serve(self, context: Context) -> Result<(), Error> {
        let Self { state, steward, relay, lanes, tokens, agents, draining, stop_lanes, stop_relay, stop_steward } = self;
        let tasks = &context.tasks;
        for lane in lanes {
            tasks.spawn("lane", lane.run());
        }
        tasks.spawn("relay", relay.run());
        tasks.spawn("tokens", worker::publish_tokens(context.bus.clone(), tokens));
        tasks.spawn("agents", agents.follow());
        tasks.spawn("partitions", partitions(context.clone(), state.pool.clone()));
        let intake = Intake { context: context.clone(), router: Arc::clone(&state.router), pool: state.pool.clone() };
        tasks.spawn("intake", intake.run());
        let failure: Arc<OnceLock<Namesake>> = Arc::default();
        let stewarded = CancellationToken::new();
        {
            let (failure, stewarded) = (Arc::clone(&failure), stewarded.clone().drop_guard());
            tasks.spawn("steward", async move {
                let _stewarded = stewarded;
                if let Err(namesake) = steward.run().await {
                    // The only writer.
                    let _ = failure.set(namesake);
                }
            });
        }
        let service = context.bus.service("execution", env!("CARGO_PKG_VERSION")).concurrency(CALLS_MAX);
        let serving = bus::serve(service, &state)?.start().await?;
        tokio::select! {
            () = context.shutdown.cancelled() => {}
            () = stewarded.cancelled() => {}
        }
        // Nothing new is claimed; what runs gets its time; then shards are given back, settled.
        draining.cancel();
        let drain = Duration::from_secs(state.config.drain_seconds);
        let drained = async {
            while state.running() > 0 {
                tokio::time::sleep(DRAIN_POLL).await;
            }
        };
        if tokio::time::timeout(drain, drained).await.is_err() {
            tracing::warn!(running = state.running(), "invocations still run; their next owner goes on with them");
        }
        serving.drain(SETTLE).await;
        stop_steward.cancel();
        stewarded.cancelled().await;
        stop_lanes.cancel();
        stop_relay.cancel();
        context.shutdown.cancel();
        context.tasks.drain(SETTLE).await;
        state.pool.close().await;
        state.readers.close().await;
        match Arc::into_inner(failure).and_then(OnceLock::into_inner) {
            Some(namesake) => Err(namesake.into()),
            None => Ok(()),
        }
    }
}

/// Weekly partitions, made ahead of their week.
async fn partitions(context: Context, pool: PgPool) {
    loop {
        if let Err(error) = store::shards::ensure_partitions(&pool, context.clock.now().to_chrono()).await {
            tracing::warn!(%error, "partitions are not made ahead; rows go to the default partition");
        }
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            () = tokio::time::sleep(PARTITIONS_EVERY) => {}
        }
    }
}
