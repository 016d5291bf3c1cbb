//! `node`: a worker on somebody's machine. It runs agents that declare a `placement`, and reaches the mesh over NATS
//! only: `identity` is who it is over its starts, `attendant` claims and says what is held, `work` runs one grant,
//! `effects` are what the agent loop may do, `appends` the way into the journal, `kept` results that must not be lost.
//!
//! What it asks of `execution` goes by its own subjects, `mesh.node.<node>.…`. Models, channels and memories it asks
//! like any other service today: that every subject of a node is its own comes with its credentials.

mod appends;
mod attendant;
mod config;
mod effects;
mod execution;
mod held;
mod identity;
mod journal;
mod kept;
mod lease;
mod work;

use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::{Context, Doorbell};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::appends::{Appends, Sender};
use crate::attendant::Attendant;
use crate::execution::Execution;
use crate::held::Holdings;
use crate::kept::Kept;

pub use config::Config;
pub use identity::{Identity, IdentityError};

/// Streamed tokens on their way to NATS; full means dropped, as the record supersedes them.
const TOKENS_QUEUED_MAX: usize = 4_096;
/// After the running invocations got their time: for what they say last.
const SETTLE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the bell of the node: {0}")]
    Bus(#[from] mesh_bus::BusError),
}

/// What all parts of a running node share.
pub(crate) struct Node {
    pub(crate) context: Context,
    pub(crate) execution: Execution,
    pub(crate) held: Holdings,
    pub(crate) appends: Appends,
    pub(crate) kept: Kept,
    pub(crate) tokens: mpsc::Sender<(mesh_types::Subject, mesh_api::journal::TokenChunk)>,
    pub(crate) toolbox: mesh_tools::Toolbox,
    /// A slot is free, or a lease is short.
    pub(crate) bell: Doorbell,
    /// Nothing new is claimed, and what runs is handed over.
    pub(crate) draining: CancellationToken,
}

/// Works until `context.shutdown`, then hands over what runs.
///
/// # Errors
/// The state of the node cannot be kept, or there is no room on the way to NATS.
pub async fn run(config: Config, context: Context) -> Result<(), Error> {
    let identity = Identity::claim(&config.state_dir, config.name.as_ref(), &context)?;
    tracing::info!(node = %identity.name, incarnation = identity.incarnation, slots = config.slots, "a node");
    let (tokens, publishing) = mpsc::channel(TOKENS_QUEUED_MAX);
    let (appends, sending) = Appends::new();
    let execution = Execution::new(&context, identity.name.clone(), identity.incarnation);
    let node = Arc::new(Node {
        execution: execution.clone(),
        held: Holdings::default(),
        appends,
        kept: Kept::new(identity.results()),
        tokens,
        toolbox: mesh_tools::Toolbox::new(config.tools.clone()),
        bell: Doorbell::new(),
        draining: CancellationToken::new(),
        context: context.clone(),
    });
    let tasks = &context.tasks;
    tasks.spawn("appends", Sender::new(execution, sending).run());
    tasks.spawn("tokens", effects::publish_tokens(context.bus.clone(), publishing));
    journal::send_kept(&node).await;
    let attended = CancellationToken::new();
    let attendant = Attendant::new(&node, &config, attended.clone()).await?;
    tasks.spawn("attendant", attendant.run());
    context.shutdown.cancelled().await;
    drain(&node, Duration::from_secs(config.drain_seconds)).await;
    attended.cancel();
    drop(node);
    context.tasks.drain(SETTLE).await;
    drop(identity);
    Ok(())
}

/// What runs stops after its step, or when its time is over, and is given back.
async fn drain(node: &Node, patience: Duration) {
    node.draining.cancel();
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
