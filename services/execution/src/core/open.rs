//! An open invocation as its owner holds it: a cache of committed state, and the shape of what a commit changes.

use std::sync::Arc;

use mesh_api::execution::{ForkedFrom, Invocation, State};
use mesh_api::journal::{Fact, Outcome, Record, Usage, WaitItem};
use mesh_api::steering::Edit;
use mesh_trace::{Place, TraceContext};
use mesh_types::{AgentName, InvocationId, Problem, Tenant, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::packed::Packed;
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
    /// `None` of most: called by nobody, forked from nothing.
    pub(crate) links: Option<Box<Links>>,
}

/// Where it comes from.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Links {
    pub(crate) parent: Option<Parent>,
    pub(crate) fork: Option<Fork>,
    /// The first of the fork tree.
    pub(crate) root: Option<InvocationId>,
    /// Invocations above it that called it.
    pub(crate) depth: u16,
}

/// Who called it, and waits for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Parent {
    pub(crate) invocation: InvocationId,
    pub(crate) step: u32,
    pub(crate) shard: ShardId,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fork {
    pub(crate) of: InvocationId,
    pub(crate) from_step: u32,
    pub(crate) edit: Edit,
}

impl Meta {
    pub(crate) fn root(&self) -> InvocationId {
        self.links.as_ref().and_then(|links| links.root).unwrap_or(self.id)
    }

    pub(crate) fn parent(&self) -> Option<&Parent> {
        self.links.as_ref()?.parent.as_ref()
    }

    pub(crate) fn fork(&self) -> Option<&Fork> {
        self.links.as_ref()?.fork.as_ref()
    }

    pub(crate) fn depth(&self) -> u16 {
        self.links.as_ref().map_or(0, |links| links.depth)
    }
}

/// What the `input` column holds, as JSON bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredInput {
    pub(crate) payload: Packed,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) context: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) metadata: Map<String, Value>,
    /// Runs on nodes only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) placed: bool,
    /// Its result carries its steps.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) intermediate_steps: bool,
    /// Of a child: the shard of its parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent_shard: Option<ShardId>,
    /// Of a fork: what is different.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) edit: Option<Edit>,
    /// Of a fork: highest record of its source when it was forked. A source that goes on must not change what the fork
    /// is answered from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source_seq: Option<u32>,
    /// Sessions that its ancestors hold: it may not ask for one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) held_sessions: Vec<(AgentName, String)>,
    /// The [`Place`] in a trace that it was accepted at, where that is not simply the trace of its own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<String>,
    /// `traceparent` of the call that it is, or of the source that it was forked from: a place in another trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trace_link: Option<String>,
}

impl StoredInput {
    pub(crate) fn place(&self) -> Option<Place> {
        self.trace.as_ref()?.parse().ok()
    }

    pub(crate) fn trace(&self) -> Option<TraceContext> {
        self.place().map(|place| place.context)
    }

    pub(crate) fn trace_link(&self) -> Option<TraceContext> {
        self.trace_link.as_ref()?.parse().ok()
    }
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
    /// By itself; its agent, tenant or everything may be paused too.
    pub(crate) paused: bool,
    /// It runs on a node that is told to stop.
    pub(crate) cancelling: bool,
    /// Workers that it lost.
    pub(crate) losses: u32,
    /// Place in its session: order of acceptance.
    pub(crate) session_order: i64,
    /// What its recorded steps used so far; summed from the records after a takeover.
    pub(crate) usage: Usage,
}

impl OpenRow {
    pub(crate) const fn queued() -> Self {
        Self {
            state: RunState::Queued,
            epoch: 0,
            seq: 1,
            started_at: None,
            paused: false,
            cancelling: false,
            losses: 0,
            session_order: 0,
            usage: Usage {
                input_tokens: 0,
                output_tokens: 0,
                cost_usd: 0.0,
            },
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunState {
    Queued,
    Running(Holder),
    /// Any of these makes it runnable.
    Waiting(Arc<Waits>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Waits {
    pub(crate) items: Vec<WaitItem>,
}

// Timestamps, names and numbers only.
impl Eq for Waits {}

impl Waits {
    /// The first time at which one of them is over by itself.
    pub(crate) fn wake_at(&self) -> Option<Timestamp> {
        use mesh_api::journal::WaitOn;
        let times = self.items.iter().filter_map(|item| match &item.on {
            WaitOn::Timer { until } => Some(*until),
            WaitOn::Signal { until, .. } => *until,
            _ => None,
        });
        times.min()
    }
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
            Self::Waiting(_) => State::Waiting,
        }
    }

    /// Its place where states are counted: queued, running, waiting.
    pub(crate) const fn place(&self) -> usize {
        match self {
            Self::Queued => 0,
            Self::Running(_) => 1,
            Self::Waiting(_) => 2,
        }
    }

    pub(crate) fn waits(&self) -> Option<&Waits> {
        match self {
            Self::Waiting(waits) => Some(waits),
            Self::Queued | Self::Running(_) => None,
        }
    }
}

/// What was used, with the steps of those records: added in their order, so that a reload sums to the same.
pub(crate) fn usage_after(used: Usage, records: &[Record]) -> Usage {
    records.iter().fold(used, |sum, record| match &record.fact {
        Fact::Done(done) => sum.plus(done.usage),
        _ => sum,
    })
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
    Changed {
        row: OpenRow,
    },
    Ended(Box<EndRow>),
    /// Accepted and ended in one: it joined another one of its session.
    Merged(Box<EndRow>),
}

impl After {
    pub(crate) const fn is_end(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::Merged(_))
    }
}

/// Why an invocation is queued whose agent runs on nodes only.
const WAITS_FOR_NODE: &str = "waits_for_node";

/// An open invocation as everyone sees it.
pub(crate) fn view_open(meta: &Meta, row: &OpenRow) -> Invocation {
    Invocation {
        state: row.state.state(),
        attempt: row.epoch,
        started_at: row.started_at,
        cursor: row.seq,
        waits_for: row.state.waits().map_or_else(Vec::new, |waits| waits.items.clone()),
        reason: (meta.input.placed && row.state == RunState::Queued).then(|| WAITS_FOR_NODE.to_owned()),
        paused: row.paused,
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
        reason: row.reason.clone(),
        ..view_meta(meta)
    }
}

fn view_meta(meta: &Meta) -> Invocation {
    let forked_from = meta.fork().map(|fork| ForkedFrom {
        invocation: fork.of,
        step: fork.from_step,
    });
    Invocation {
        id: meta.id,
        tenant: meta.tenant.clone(),
        agent: meta.agent.clone(),
        version: meta.version,
        state: State::Queued,
        session: meta.session.clone(),
        entrypoint: meta.entrypoint.clone(),
        priority: meta.priority,
        payload: meta.input.payload.value(),
        output: None,
        error: None,
        provider: None,
        usage: Usage::default(),
        parent: meta.parent().map(|parent| parent.invocation),
        forked_from,
        attempt: 0,
        created_at: meta.created_at,
        started_at: None,
        ended_at: None,
        cursor: 0,
        reason: None,
        waits_for: Vec::new(),
        paused: false,
        root: Some(meta.root()),
        steps: None,
    }
}
