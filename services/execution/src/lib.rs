//! `execution`: invocations and their journal. The protocol of record is EXECUTION.md; the map of this crate:
//! `core` decides purely, `lane` commits what was decided, `steward` owns shards, `relay` tells the world,
//! `router` brings requests to their owner, `intake` reads the durable inbox, `worker` runs hosted work,
//! `store` holds all SQL, `bus` the endpoints.

mod agents;
mod bus;
mod config;
mod core;
mod directory;
mod history;
mod hosted;
mod housekeeping;
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

use mesh_bus::{BusError, ServiceHandle};
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
use crate::directory::Directory;
use crate::history::History;
use crate::hosted::Slots;
use crate::housekeeping::Keep;
use crate::intake::Intake;
use crate::lane::command::LaneHandle;
use crate::lane::{Lane, LaneContext};
use crate::relay::{Adopted, Marks, Outbox, Relay};
use crate::router::Router;
use crate::state::State;
use crate::steward::{HandOver, Held, Steward};
use crate::worker::Hosted;

/// Streamed tokens on their way to NATS.
const TOKENS_QUEUED_MAX: usize = 4_096;
/// Calls that are worked on at the same time; each waits for an end and holds little.
const CALLS_MAX: usize = 8_192;
const SETTLE: Duration = Duration::from_secs(5);
/// Name of the probe that fails while an older database is refused.
const FEED_PROBE: &str = "feed";
const DRAIN_POLL: Duration = Duration::from_millis(50);
const DAY: Duration = Duration::from_secs(24 * 3_600);

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
    let lanes_max = u32::try_from(config.lanes).unwrap_or(2);
    let pool = connect(
        &config,
        Role::Execution,
        config.database.connections + lanes_max,
    )
    .await?;
    let readers = connect(&config, Role::ExecutionReader, config.database.connections).await?;
    let probe = mesh_store::probe(&readers);
    context
        .health
        .register_with(health::DATABASE, move || probe());
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

/// Everything wired together, before it runs.
struct Parts {
    state: Arc<State>,
    steward: Steward,
    relay: Relay,
    lanes: Vec<Lane>,
    tokens: mpsc::Receiver<(mesh_types::Subject, mesh_api::journal::TokenChunk)>,
    agents: Arc<Agents>,
    draining: CancellationToken,
    closing: CancellationToken,
    stop_lanes: CancellationToken,
    stop_relay: CancellationToken,
    stop_steward: CancellationToken,
}

impl Parts {
    fn new(config: Config, context: &Context, pool: PgPool, readers: PgPool) -> Self {
        let instance: Arc<str> = config.instance.as_str().into();
        let (handles, receivers): (Vec<_>, Vec<_>) =
            (0..config.lanes).map(|_| LaneHandle::new()).unzip();
        let (outbox, committed, queued) = Outbox::new();
        let (adopted_sender, adopted) = mpsc::unbounded_channel::<Adopted>();
        let (hand_overs, asked) = mpsc::unbounded_channel::<HandOver>();
        let (tokens_sender, tokens) = mpsc::channel(TOKENS_QUEUED_MAX);
        let (draining, closing) = (CancellationToken::new(), CancellationToken::new());
        let stop_lanes = CancellationToken::new();
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
                    holder: Holder {
                        node: Arc::clone(&instance),
                        incarnation,
                    },
                    slots: Arc::clone(&slots),
                    start: Box::new(move |start| hosted.start(start)),
                    relay: outbox.clone(),
                    lost: Box::new(move |shard, epoch| directory.lost(shard, epoch)),
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
            closing: closing.clone(),
        });
        let steward = Steward {
            context: context.clone(),
            stop: stop_steward.clone(),
            draining: draining.clone(),
            pool: pool.clone(),
            instance,
            lanes: handles.clone(),
            directory: Arc::clone(&directory),
            history: History {
                bus: context.bus.clone(),
                pool: pool.clone(),
                marks: Arc::clone(&marks),
                accepts_older: config.accept_older_database,
            },
            marks: Arc::clone(&marks),
            adopted: adopted_sender,
            asked,
            memory: Held::default(),
        };
        let relay = Relay {
            bus: context.bus.clone(),
            pool: pool.clone(),
            marks: Arc::clone(&marks),
            committed,
            queued,
            adopted,
            stop: stop_relay.clone(),
            feeds: HashMap::new(),
            marked: HashMap::new(),
            deferred: relay::Deferred::default(),
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
        Self {
            state,
            steward,
            relay,
            lanes,
            tokens,
            agents,
            draining,
            closing,
            stop_lanes,
            stop_relay,
            stop_steward,
        }
    }

    async fn serve(self, context: Context) -> Result<(), Error> {
        let Self {
            state,
            steward,
            relay,
            lanes,
            tokens,
            agents,
            draining,
            closing,
            stop_lanes,
            stop_relay,
            stop_steward,
        } = self;
        watch_feed(&context, &state.directory);
        let tasks = &context.tasks;
        // Cancelled when one of those that nothing works without has ended.
        let core_ended = CancellationToken::new();
        for lane in lanes {
            tasks.spawn("lane", guarded(core_ended.clone(), lane.run()));
        }
        tasks.spawn("relay", guarded(core_ended.clone(), relay.run()));
        let failure: Arc<OnceLock<Namesake>> = Arc::default();
        let (stewarded, failed) = (CancellationToken::new(), Arc::clone(&failure));
        let stewarding = guarded(stewarded.clone(), async move {
            if let Err(namesake) = steward.run().await {
                // The only writer.
                let _ = failed.set(namesake);
            }
        });
        tasks.spawn("steward", guarded(core_ended.clone(), stewarding));
        tasks.spawn(
            "tokens",
            worker::publish_tokens(context.bus.clone(), tokens),
        );
        tasks.spawn("agents", agents.follow());
        let keep = Keep {
            keys: DAY * state.config.keys_kept_days,
            feed: DAY * state.config.feed_kept_days,
        };
        tasks.spawn(
            "housekeeping",
            housekeeping::keep_house(context.clone(), state.pool.clone(), keep),
        );
        let intake = Intake {
            context: context.clone(),
            router: Arc::clone(&state.router),
            pool: state.pool.clone(),
        };
        tasks.spawn("intake", intake.run());
        let ended = match start(&context, &state).await {
            Err(error) => Err(error),
            Ok(serving) => {
                let ended = tokio::select! {
                    () = context.shutdown.cancelled() => Ok(()),
                    () = core_ended.cancelled() => Err(Error::Broken),
                };
                // Nothing new is claimed; what runs gets its time; who still waits is told how far it is.
                draining.cancel();
                drain(&state).await;
                closing.cancel();
                serving.drain(SETTLE).await;
                ended
            }
        };
        draining.cancel();
        closing.cancel();
        // Shards are given back, settled.
        stop_steward.cancel();
        stewarded.cancelled().await;
        stop_lanes.cancel();
        stop_relay.cancel();
        context.shutdown.cancel();
        context.tasks.drain(SETTLE).await;
        context.health.unregister(FEED_PROBE);
        state.pool.close().await;
        state.readers.close().await;
        match Arc::into_inner(failure).and_then(OnceLock::into_inner) {
            Some(namesake) => Err(namesake.into()),
            None => ended,
        }
    }
}

async fn start(context: &Context, state: &Arc<State>) -> Result<ServiceHandle, Error> {
    let service = context
        .bus
        .service("execution", env!("CARGO_PKG_VERSION"))
        .concurrency(CALLS_MAX);
    Ok(bus::serve(service, state)?.start().await?)
}

/// A refused database is seen in `/health`.
fn watch_feed(context: &Context, directory: &Arc<Directory>) {
    let directory = Arc::clone(directory);
    context.health.register_with(FEED_PROBE, move || {
        let refusal = directory.refusal();
        async move { refusal.map_or(Ok(()), |problem| Err(problem.to_string())) }
    });
}

/// Tells of the end of `work`, also when it panics or is dropped.
fn guarded(
    ended: CancellationToken,
    work: impl Future<Output = ()> + Send,
) -> impl Future<Output = ()> + Send {
    let ended = ended.drop_guard();
    async move {
        let _ended = ended;
        work.await;
    }
}

async fn drain(state: &State) {
    let drained = async {
        while state.running() > 0 {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(state.config.drain_seconds), drained)
        .await
        .is_err()
    {
        tracing::warn!(
            running = state.running(),
            "invocations still run; their next owner goes on with them"
        );
    }
}
