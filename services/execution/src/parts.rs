//! Everything wired together: what runs, in which order it starts, and how it stops.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mesh_runtime::{Context, Doorbell};
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agents::Agents;
use crate::config::Config;
use crate::core::Holder;
use crate::directory::Directory;
use crate::figures::Figures;
use crate::history::History;
use crate::hosted::Slots;
use crate::housekeeping::{self, Keep};
use crate::intake::Intake;
use crate::lane::command::LaneHandle;
use crate::lane::{Lane, LaneContext, SharedPauses};
use crate::nodes::{Nodes, Ringer};
use crate::post::{Postbox, Postman};
use crate::relay::{self, Adopted, Marks, Outbox, Relay};
use crate::router::Router;
use crate::state::State;
use crate::steward::{HandOver, Held, Namesake, Steward};
use crate::store::ledger::PgLedger;
use crate::worker::{self, Hosted};
use crate::{Error, bus, figures, fleet};

/// Streamed tokens on their way to NATS.
const TOKENS_QUEUED_MAX: usize = 4_096;
/// Calls that are worked on at the same time; each waits for an end and holds little.
const CALLS_MAX: usize = 8_192;
const SETTLE: Duration = Duration::from_secs(5);
/// Name of the probe that fails while an older database is refused.
const FEED_PROBE: &str = "feed";
const DRAIN_POLL: Duration = Duration::from_millis(50);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// What ends, one after the other, at a shutdown.
#[derive(Debug, Default)]
struct Stops {
    /// Nothing new is claimed or taken.
    draining: CancellationToken,
    /// Whoever still waits for an end is answered.
    closing: CancellationToken,
    steward: CancellationToken,
    lanes: CancellationToken,
    relay: CancellationToken,
}

/// All that runs, before it runs.
pub(crate) struct Parts {
    state: Arc<State>,
    steward: Steward,
    relay: Relay,
    lanes: Vec<Lane<PgLedger>>,
    postman: Postman,
    ringer: Ringer,
    tokens: mpsc::Receiver<(mesh_types::Subject, mesh_api::journal::TokenChunk)>,
    agents: Arc<Agents>,
    stops: Stops,
}

impl Parts {
    #[expect(clippy::too_many_lines, reason = "a table: what is wired to what")]
    pub(crate) fn new(config: Config, context: &Context, pool: PgPool, readers: PgPool) -> Self {
        let instance: Arc<str> = config.instance.as_str().into();
        let (handles, receivers): (Vec<_>, Vec<_>) = (0..config.lanes).map(|_| LaneHandle::new()).unzip();
        let (outbox, committed, queued) = Outbox::new();
        let (adopted_sender, adopted) = mpsc::unbounded_channel::<Adopted>();
        let (hand_overs, asked) = mpsc::unbounded_channel::<HandOver>();
        let (tokens_sender, tokens) = mpsc::channel(TOKENS_QUEUED_MAX);
        let weak_tokens = tokens_sender.downgrade();
        let stops = Stops::default();
        let directory = Directory::new();
        let marks = Arc::new(Marks::default());
        let figures = Figures::new(&context.metrics);
        let agents = Agents::new(context.clone());
        let (postbox, pauses) = (Postbox::new(), Arc::new(SharedPauses::unread()));
        let slots = Slots::new(config.hosted_slots);
        slots.ring_lanes(handles.iter().map(|lane| lane.commands.clone()).collect());
        let hosted = Arc::new(Hosted {
            context: context.clone(),
            agents: Arc::clone(&agents),
            pool: pool.clone(),
            lanes: handles.clone(),
            figures: Arc::clone(&figures),
            tokens: tokens_sender,
            toolbox: mesh_tools::Toolbox::new(config.tools.clone()),
        });
        // Grows with each start: nothing of an earlier one is taken for ours.
        let incarnation = context.clock.now().as_millis();
        let lanes = receivers
            .into_iter()
            .zip(&handles)
            .map(|(receiver, handle)| {
                let (hosted, directory) = (Arc::clone(&hosted), Arc::clone(&directory));
                let post = Arc::clone(&postbox);
                let ledger = PgLedger::new(pool.clone());
                let context = LaneContext {
                    clock: Arc::clone(&context.clock),
                    holder: Holder {
                        node: Arc::clone(&instance),
                        incarnation,
                    },
                    slots: Arc::clone(&slots),
                    start: Box::new(move |start| hosted.start(start)),
                    relay: outbox.clone(),
                    lost: Box::new(move |shard, epoch| directory.lost(shard, epoch)),
                    posted: Box::new(move |shard| post.posted(shard)),
                    node_lease: Duration::from_millis(config.node_lease_ms),
                    pauses: Arc::clone(&pauses),
                    figures: Arc::clone(&figures),
                    relayed: Arc::clone(&marks),
                    draining: stops.draining.clone(),
                    stop: stops.lanes.clone(),
                    abort_after_seq: config.abort_after_seq,
                };
                Lane::new(context, ledger, handle.clone(), receiver)
            })
            .collect();
        let router = Arc::new(Router {
            context: context.clone(),
            agents: Arc::clone(&agents),
            lanes: handles.clone(),
            directory: Arc::clone(&directory),
            readers: readers.clone(),
            closing: stops.closing.clone(),
            figures: Arc::clone(&figures),
        });
        let steward = Steward {
            context: context.clone(),
            stop: stops.steward.clone(),
            draining: stops.draining.clone(),
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
            figures: Arc::clone(&figures),
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
            stop: stops.relay.clone(),
            feeds: HashMap::new(),
            marked: HashMap::new(),
            deferred: relay::Deferred::default(),
            announced: HashMap::new(),
        };
        let postman = Postman {
            context: context.clone(),
            pool: pool.clone(),
            router: Arc::clone(&router),
            postbox: Arc::clone(&postbox),
            pauses: Arc::clone(&pauses),
        };
        let nodes = Nodes::new(context, pool.clone());
        let ringer = Ringer {
            context: context.clone(),
            nodes: Arc::clone(&nodes),
            lanes: handles.clone(),
            instance: config.instance.clone(),
        };
        let state = Arc::new(State {
            config,
            context: context.clone(),
            router,
            directory,
            lanes: handles,
            marks,
            figures,
            slots,
            pool,
            readers,
            hand_overs,
            postbox,
            pauses,
            nodes,
            events_bell: Doorbell::new(),
            // The workers hold it: when they are gone, what publishes ends.
            tokens: weak_tokens,
        });
        Self {
            state,
            steward,
            relay,
            lanes,
            postman,
            ringer,
            tokens,
            agents,
            stops,
        }
    }

    pub(crate) async fn serve(self, context: Context) -> Result<(), Error> {
        let Self {
            state,
            steward,
            relay,
            lanes,
            postman,
            ringer,
            tokens,
            agents,
            stops,
        } = self;
        watch_feed(&context, &state.directory);
        figures::observe(&state);
        let tasks = &context.tasks;
        tasks.spawn("queues", figures::watch_queues(Arc::clone(&state)));
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
        let tokens = worker::publish_tokens(context.bus.clone(), tokens);
        tasks.spawn("tokens", tokens);
        let fleet = Arc::clone(&state.nodes.fleet);
        tasks.spawn("assignments", fleet.follow(context.clone(), Arc::clone(&agents)));
        let losses = fleet::follow_losses(context.clone(), state.lanes.clone());
        tasks.spawn("lost-nodes", losses);
        tasks.spawn("agents", agents.follow());
        tasks.spawn("postman", postman.run());
        tasks.spawn("node-bells", ringer.run());
        tasks.spawn("housekeeping", keep_house(&context, &state));
        let intake = Intake {
            context: context.clone(),
            router: Arc::clone(&state.router),
            pool: state.pool.clone(),
            events_bell: state.events_bell.clone(),
        };
        tasks.spawn("intake", intake.run());
        let (pool, bell) = (state.pool.clone(), state.events_bell.clone());
        let events = mesh_outbox::relay(mesh_store::Outbox::EXECUTION, pool, context.clone(), bell);
        tasks.spawn("event-relay", events);
        let ended = answer(&context, &state, &stops, &core_ended).await;
        stops.draining.cancel();
        stops.closing.cancel();
        // Shards are given back, settled.
        stops.steward.cancel();
        stewarded.cancelled().await;
        stops.lanes.cancel();
        stops.relay.cancel();
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

/// Answers requests until the shutdown, then drains; an error is why it did not come to that.
async fn answer(
    context: &Context,
    state: &Arc<State>,
    stops: &Stops,
    core_ended: &CancellationToken,
) -> Result<(), Error> {
    let service = context
        .bus
        .service("execution", env!("CARGO_PKG_VERSION"))
        .concurrency(CALLS_MAX);
    let serving = bus::serve(service, state)?.start().await?;
    let ended = tokio::select! {
        () = context.shutdown.cancelled() => Ok(()),
        () = core_ended.cancelled() => Err(Error::Broken),
    };
    // Nothing new is claimed; what runs gets its time; who still waits is told how far it is.
    stops.draining.cancel();
    drain(state).await;
    stops.closing.cancel();
    serving.drain(SETTLE).await;
    ended
}

fn keep_house(context: &Context, state: &State) -> impl Future<Output = ()> + Send + use<> {
    let keep = Keep {
        keys: DAY * state.config.keys_kept_days,
        feed: DAY * state.config.feed_kept_days,
        history: (state.config.history_kept_days > 0).then(|| DAY * state.config.history_kept_days),
    };
    housekeeping::keep_house(context.clone(), state.pool.clone(), keep)
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
fn guarded(ended: CancellationToken, work: impl Future<Output = ()> + Send) -> impl Future<Output = ()> + Send {
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
