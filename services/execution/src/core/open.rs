//! An open invocation as its owner holds it: a cache of committed state, and the shape of what a commit changes.

use std::sync::Arc;

use mesh_api::execution::{Invocation, State};
use mesh_api::journal::{Outcome, Usage};
use mesh_types::{AgentName, InvocationId, Problem, Tenant, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::shards::ShardId;

/// What is fixed when an invocation is accepted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Meta {
    pub(crate) id: InvocationId,
    pub(crate) tenant: Tenant,
    pub(crate) shard: ShardId,
    pub(crate) agent: AgentName,
    pub(crate) version: u32,
    /// Content hash of the artifact, 64 hexadecimal digits.
    pub(crate) artifact: String,
    /// Slots that one replica of the agent has.
    pub(crate) concurrency: u32,
    pub(crate) entrypoint: String,
    pub(crate) session: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) priority: u8,
    pub(crate) created_at: Timestamp,
    pub(crate) deadline_at: Option<Timestamp>,
    pub(crate) wake_at: Option<Timestamp>,
    pub(crate) request_hash: [u8; 32],
    pub(crate) reply_to: Option<String>,
    pub(crate) actor: String,
    pub(crate) input: StoredInput,
}

/// What the `input` column holds, as JSON bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredInput {
    pub(crate) payload: Value,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) context: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) metadata: Map<String, Value>,
}

/// What changes while it is open: the row of `open` with the record count.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OpenRow {
    pub(crate) state: RunState,
    /// Claims so far.
    pub(crate) epoch: u32,
    /// Highest committed record.
    pub(crate) seq: u32,
    pub(crate) started_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunState {
    Queued,
    Running(Holder),
}

/// Who runs it: a node or a hosted worker, in one of its starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) node: Arc<str>,
    pub(crate) incarnation: u64,
}

impl RunState {
    pub(crate) fn state(&self) -> State {
        match self {
            Self::Queued => State::Queued,
            Self::Running(_) => State::Running,
        }
    }
}

/// The row of `ended`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EndRow {
    pub(crate) outcome: Outcome,
    pub(crate) reason: Option<String>,
    pub(crate) provider: Option<String>,
    pub(crate) epoch: u32,
    pub(crate) seq: u32,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) ended_at: Timestamp,
    pub(crate) usage: Usage,
    pub(crate) output: Option<Value>,
    pub(crate) error: Option<Problem>,
}

/// What a committed decision leaves behind; says both what is written and how memory changes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum After {
    /// Accepted: a new open invocation.
    Opened(OpenRow),
    /// Records only; nothing else of the open row is written.
    Grew {
        seq: u32,
    },
    /// The open row changed.
    Changed(OpenRow),
    Ended(Box<EndRow>),
}

/// An open invocation as everyone sees it.
pub(crate) fn view_open(meta: &Meta, row: &OpenRow) -> Invocation {
    Invocation {
        state: row.state.state(),
        attempt: row.epoch,
        started_at: row.started_at,
        cursor: row.seq,
        ..view_meta(meta)
    }
}

/// An ended one.
pub(crate) fn view_ended(meta: &Meta, row: &EndRow) -> Invocation {
    Invocation {
        state: row.outcome.into(),
        output: row.output.clone(),
        error: row.error.clone(),
        provider: row.provider.clone(),
        usage: row.usage,
        attempt: row.epoch,
        started_at: row.started_at,
        ended_at: Some(row.ended_at),
        cursor: row.seq,
        ..view_meta(meta)
    }
}

fn view_meta(meta: &Meta) -> Invocation {
    Invocation {
        id: meta.id,
        tenant: meta.tenant.clone(),
        agent: meta.agent.clone(),
        version: meta.version,
        state: State::Queued,
        session: meta.session.clone(),
        entrypoint: meta.entrypoint.clone(),
        priority: meta.priority,
        payload: meta.input.payload.clone(),
        output: None,
        error: None,
        provider: None,
        usage: Usage::default(),
        parent: None,
        forked_from: None,
        attempt: 0,
        created_at: meta.created_at,
        started_at: None,
        ended_at: None,
        cursor: 0,
        reason: None,
        waits_for: Vec::new(),
        paused: false,
        root: None,
        steps: None,
    }
}
