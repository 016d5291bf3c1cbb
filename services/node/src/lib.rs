//! `node`: a worker on somebody's machine. It runs agents that declare a `placement`, and reaches the mesh over NATS
//! only: `join` gets it in, `identity` is who it is over its starts, `settings` how it is configured, `heartbeat` what it
//! says of itself, `assignments` what it is to run; `attendant` claims and says what is held, `work` runs one grant,
//! `effects` are what the agent loop may do, `appends` the way into the journal, `kept` results that must not be lost.
//! `local` is its own API and page, `tunnel` the way to it through the mesh.
//!
//! What it asks of the mesh goes by its own subjects, `mesh.node.<node>.…`.

mod appends;
mod artifacts;
mod assignments;
mod attendant;
mod chat;
mod config;
mod effects;
mod execution;
mod face;
mod heartbeat;
mod held;
mod identity;
mod join;
mod journal;
mod kept;
mod lease;
mod load;
mod local;
mod machine;
mod models;
mod replicas;
mod settings;
mod tunnel;
mod work;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mesh_runtime::{Context, Doorbell, Secret};
use mesh_types::fleet::NodeMode;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use crate::appends::{Appends, Sender};
use crate::assignments::Assignments;
use crate::attendant::Attendant;
use crate::execution::Execution;
use crate::heartbeat::Reporter;
use crate::held::{Held, Holdings};
use crate::identity::State;
use crate::kept::Kept;
use crate::load::Load;
use crate::models::{MeshCentre, Models};
use crate::replicas::Replicas;

pub use config::Config;
pub use identity::StateError;
pub use join::{Door, JoinError, Joined, join};
pub use models::{InferenceConfig, ModelsError, Provider};

/// Streamed tokens on their way to NATS; full means dropped, as the record supersedes them.
const TOKENS_QUEUED_MAX: usize = 4_096;
/// After the running invocations got their time: for what they say last.
const SETTLE: Duration = Duration::from_secs(5);
/// How long a refused connection may be that of a mesh which is starting.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the bell of the node: {0}")]
    Bus(#[from] mesh_bus::BusError),
    #[error(transparent)]
    Models(#[from] ModelsError),
}

/// What all parts of a running node share.
pub(crate) struct Node {
    pub(crate) context: Context,
    pub(crate) config: Config,
    pub(crate) state: Arc<State>,
    /// What it joined with at this start, if it did.
    pub(crate) joined_with: Option<Secret<String>>,
    pub(crate) execution: Execution,
    pub(crate) replicas: Replicas,
    pub(crate) load: Load,
    pub(crate) held: Holdings,
    pub(crate) appends: Appends,
    pub(crate) kept: Kept,
    pub(crate) tokens: mpsc::Sender<(Arc<Held>, mesh_api::journal::TokenChunk)>,
    pub(crate) toolbox: mesh_tools::Toolbox,
    /// Who answers for the models.
    pub(crate) models: Arc<Models>,
    /// A slot is free, or a lease is short.
    pub(crate) bell: Doorbell,
    /// Something may be claimed that was not before.
    pub(crate) claimable: Doorbell,
    /// What this node is to run may have changed.
    pub(crate) assigned: Doorbell,
    /// What a heartbeat says has changed.
    pub(crate) report: Doorbell,
    /// The mesh does not know, or this node does not know, how it is configured.
    pub(crate) untold: Doorbell,
    pub(crate) reconfiguring: Mutex<()>,
    pub(crate) is_mode_changed: AtomicBool,
    /// Nothing new is claimed, and what runs is handed over.
    pub(crate) draining: CancellationToken,
}

impl Node {
    /// Whether it takes new work at all.
    pub(crate) fn takes_work(&self) -> bool {
        !self.draining.is_cancelled() && !self.replicas.is_drained() && self.state.mode() != NodeMode::Sleep
    }
}

/// Works until `context.shutdown`, then hands over what runs.
///
/// # Errors
/// There is no room on the way to NATS.
pub async fn run(config: Config, joined: Joined, context: Context) -> Result<(), Error> {
    let incarnation = joined.state.get().incarnation;
    tracing::info!(node = %joined.node, incarnation, slots = config.slots, mode = ?joined.state.mode(), "a node");
    let (tokens, publishing) = mpsc::channel(TOKENS_QUEUED_MAX);
    let (appends, sending) = Appends::new();
    let execution = Execution::new(&context, joined.node.clone(), incarnation);
    let centre = Arc::new(MeshCentre::new(context.bus.clone(), joined.node.clone()));
    let models = Models::new(&config.inference, joined.state.folder(), centre.clone())?;
    let node = Arc::new(Node {
        execution: execution.clone(),
        state: Arc::clone(&joined.state),
        joined_with: joined.joined_with.clone(),
        replicas: Replicas::default(),
        load: Load::default(),
        held: Holdings::default(),
        appends,
        kept: Kept::new(joined.state.folder().join("results")),
        tokens,
        toolbox: mesh_tools::Toolbox::new(config.tools.clone()),
        models: Arc::new(models),
        bell: Doorbell::new(),
        claimable: Doorbell::new(),
        assigned: Doorbell::new(),
        report: Doorbell::new(),
        untold: Doorbell::new(),
        reconfiguring: Mutex::new(()),
        is_mode_changed: AtomicBool::new(false),
        draining: CancellationToken::new(),
        context: context.clone(),
        config,
    });
    let tasks = &context.tasks;
    tasks.spawn("appends", Sender::new(execution.clone(), sending).run());
    tasks.spawn("tokens", effects::publish_tokens(execution.clone(), publishing));
    let attended = CancellationToken::new();
    let reporter = Reporter::new(&node, attended.clone()).await;
    tasks.spawn("heartbeat", reporter.run());
    let introduced = settings::introduce(Arc::clone(&node), joined.door, joined.is_introduced, attended.clone());
    tasks.spawn("introduce", introduced);
    journal::send_kept(&node).await;
    let attendant = Attendant::new(&node, attended.clone()).await?;
    tasks.spawn("attendant", attendant.run());
    tasks.spawn("assignments", Assignments::new(&node, attended.clone()).run());
    face::serve(&node, centre).await?;
    tasks.spawn("refusals", tell_refusals(context.clone(), attended.clone()));
    context.shutdown.cancelled().await;
    drain(&node).await;
    attended.cancel();
    drop(node);
    context.tasks.drain(SETTLE).await;
    Ok(())
}

/// What runs stops after its step, or when its time is over, and is given back.
async fn drain(node: &Node) {
    node.draining.cancel();
    node.report.ring();
    let patience = Duration::from_secs(node.config.drain_seconds);
    if tokio::time::timeout(patience, node.held.none()).await.is_ok() {
        return;
    }
    node.held.stop_all();
    if tokio::time::timeout(SETTLE, node.held.none()).await.is_err() {
        tracing::warn!(
            left = node.held.len(),
            "invocations are not handed over; they go on elsewhere when their lease is over"
        );
    }
}

/// A refused connection is tried again for ever, since a mesh that starts refuses everybody; a person may know better.
async fn tell_refusals(context: Context, ended: CancellationToken) {
    let mut refusals = context.bus.refusals();
    refusals.mark_unchanged();
    let mut is_told = false;
    loop {
        tokio::select! {
            () = ended.cancelled() => return,
            changed = refusals.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
        let is_back = context.bus.wait_connected(REFUSAL_PATIENCE).await;
        if !is_back && !is_told {
            tracing::error!(
                "the mesh refuses this node's secret: it was revoked, or another node joined by its id. If that is not \
                 meant, make a token with `mesh tokens create` and start the node again with --token"
            );
        }
        is_told = !is_back;
    }
}
