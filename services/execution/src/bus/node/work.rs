//! `work`: all that a worker needs to know of an invocation, in one piece or in pages.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use mesh_api::Endpoint;
use mesh_api::journal::{Ended, Outcome, Usage};
use mesh_api::node::{NodeWork, PART_BYTES_MAX, WireFork, WireInput, WireWork, WorkReply, WorkRequest};
use mesh_types::{Code, NodeId, Problem};
use sha2::{Digest, Sha256};

use crate::core::Meta;
use crate::core::append::AppendThen;
use crate::state::State;
use crate::store::{load, read, source};

/// Records of one invocation that are read.
const JOURNAL_MAX: i64 = 100_000;

/// Why there is no work to be had from a claim.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// Registry or database are away.
    Now(Problem),
    /// It would be so for ever.
    Ever(Problem),
}

impl Unreadable {
    /// Runnable again, or a dead letter for a person to look at.
    pub(super) fn into_then(self, meta: &Meta) -> AppendThen {
        match self {
            Self::Now(problem) => {
                tracing::warn!(invocation = %meta.id, %problem, "it cannot be given to a node now");
                AppendThen::Release
            }
            Self::Ever(problem) => {
                tracing::error!(invocation = %meta.id, %problem, "it cannot be run");
                AppendThen::End(Box::new(Ended {
                    outcome: Outcome::Dead,
                    reason: Some("not_runnable".into()),
                    output: None,
                    error: Some(problem),
                    usage: Usage::default(),
                    provider: None,
                }))
            }
        }
    }

    fn into_problem(self) -> Problem {
        match self {
            Self::Now(problem) | Self::Ever(problem) => problem,
        }
    }
}

impl From<sqlx::Error> for Unreadable {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Decode(_) => Self::Ever(Problem::new(Code::Internal, error.to_string())),
            error => Self::Now(mesh_store::to_problem(error, "read a journal")),
        }
    }
}

pub(super) async fn of(state: &State, meta: &Meta) -> Result<WireWork, Unreadable> {
    let spec = state.router.agents.artifact(&meta.tenant, &meta.artifact).await;
    let spec = spec.map_err(|problem| match problem.is_transient() || problem.status >= 500 {
        true => Unreadable::Now(problem),
        false => Unreadable::Ever(problem),
    })?;
    let mut connection = state.pool.acquire().await?;
    let journal = load::journal(&mut connection, meta.id, 0, JOURNAL_MAX).await?;
    let source = source::of(&mut connection, meta).await?;
    Ok(WireWork {
        version: meta.version,
        spec: (*spec).clone(),
        input: WireInput {
            payload: meta.input.payload.value(),
            entrypoint: meta.entrypoint.clone(),
            context: meta.input.context.clone(),
            metadata: meta.input.metadata.clone(),
            session: meta.session.clone(),
        },
        fork: meta.fork().map(|fork| WireFork {
            from_step: fork.from_step,
            edit: fork.edit.clone(),
        }),
        inherited: source.inherited,
        recording: source.recording,
        journal,
        deadline: meta.deadline_at,
        depth: meta.depth().into(),
        trace: meta.input.trace.clone(),
        trace_link: meta.input.trace_link.clone(),
    })
}

pub(super) async fn page(state: &Arc<State>, node: NodeId, request: WorkRequest) -> Result<WorkReply, Problem> {
    state
        .nodes
        .tickets
        .check(&node, NodeWork::NAME, &request.ticket)
        .await?;
    super::still_held(state, &node, &request.ticket).await?;
    let id = request.ticket.invocation;
    let unreadable = |error| mesh_store::to_problem(error, "read an invocation");
    let mut connection = state.pool.acquire().await.map_err(unreadable)?;
    let found = read::invocations(&mut *connection, &[id])
        .await
        .map_err(unreadable)?
        .pop();
    drop(connection);
    let (meta, _) = found.ok_or_else(|| Problem::new(Code::InvocationNotFound, format!("{id} is pruned")))?;
    let work = of(state, &meta).await.map_err(Unreadable::into_problem)?;
    let whole = serde_json::to_vec(&work)
        .map_err(|error| Problem::new(Code::Internal, format!("{id} cannot be written as JSON: {error}")))?;
    let from = usize::try_from(request.offset).map_or(whole.len(), |offset| offset.min(whole.len()));
    let to = whole.len().min(from + PART_BYTES_MAX);
    Ok(WorkReply {
        bytes: BASE64.encode(&whole[from..to]),
        total: whole.len() as u64,
        hash: hex::encode(Sha256::digest(&whole)),
    })
}
