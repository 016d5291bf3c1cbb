//! Endpoints of `execution`: accept, read, steer invocations; the feed; dead letters.

use mesh_types::{AgentName, DeadLetterId, InvocationId, Problem, Tenant, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use crate::accept::{AcceptRequest, InvocationAccept, WAIT_MAX};
use crate::journal::{Effect, JournalPage, Outcome, StepKind, Usage};
use crate::page::{Page, PageQuery};
pub use crate::status::{AgentDemand, Demand, DemandRequest, ExecutionStatusView, ShardView};

endpoints! { "execution";
    InvocationGet = "invocation-get", InvocationRequest => Invocation, Viewer, 5 s;
    InvocationList = "invocation-list", ListRequest => Page<Invocation>, Viewer, 10 s;
    InvocationCounts = "invocation-counts", InvocationFilter => Counts, Viewer, 10 s;
    InvocationSteps = "invocation-steps", StepsRequest => Page<Step>, Viewer, 10 s;
    InvocationCancel = "invocation-cancel", CancelRequest => Invocation, Program, 10 s;
    /// Records above a mark, straight from the journal: what fills a gap of JOURNAL.
    InvocationFeed = "invocation-feed", FeedRequest => JournalPage, Viewer, 10 s;
    DeadLetterList = "dead-letter-list", DeadLetterListRequest => Page<DeadLetter>, Viewer, 5 s;
    DeadLetterGet = "dead-letter-get", DeadLetterRequest => DeadLetter, Viewer, 5 s;
    DeadLetterDiscard = "dead-letter-discard", DeadLetterRequest => DeadLetter, Operator, 5 s;
    /// Who owns which shard, how far it is, what waits: for people and probes.
    ExecutionStatus = "status", Empty => ExecutionStatusView, Viewer, 5 s;
    /// What waits for nodes and runs on them, of every tenant and every owner: what replicas are scaled by.
    ExecutionDemand = "demand", DemandRequest => Demand, Service, 5 s;
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Empty {}

/// Body of `mesh.invoke.…`, `mesh.call.…` and `POST …/invocations`. Unknown fields are refused by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InvokeRequest {
    #[serde(skip_serializing_if = "Value::is_null")]
    pub payload: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invocation_id: Option<InvocationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Invocations of one session run one at a time, in order of acceptance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// 0 to 9, default 5, higher first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub context: Map<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    /// A subject under `_INBOX.` or `mesh.reply.<tenant>.`; gets the result or the error, at least once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// `mesh.call` only: chunks, then the result, then an empty message.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// The result comes with the steps that led to it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub intermediate_steps: bool,
}

/// Body of `router.invoke.agent` and of the kept `test-channel` route: the agent is named in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouterRequest {
    /// `agent:sofia` or `sofia`.
    pub agent_id: String,
    /// `payload.microdao_id` names the tenant; without one it is `default`.
    #[serde(default)]
    pub payload: Value,
    #[serde(default)]
    pub entrypoint: Option<String>,
    #[serde(default)]
    pub invocation_id: Option<InvocationId>,
    #[serde(default)]
    pub idempotency_key: Option<String>,
    #[serde(default)]
    pub session: Option<String>,
    #[serde(default)]
    pub priority: Option<u8>,
    #[serde(default)]
    pub delay_ms: Option<u64>,
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    #[serde(default)]
    pub context: Map<String, Value>,
    #[serde(default)]
    pub metadata: Map<String, Value>,
    #[serde(default)]
    pub reply_to: Option<String>,
    #[serde(default)]
    pub intermediate_steps: bool,
}

impl RouterRequest {
    /// Tenant, agent and the request without them.
    pub fn split(self) -> Result<(Tenant, AgentName, InvokeRequest), Problem> {
        let agent = self
            .agent_id
            .parse::<AgentName>()
            .map_err(|error| Problem::from(error).field("agent_id"))?;
        let tenant = match self.payload.get("microdao_id") {
            None | Some(Value::Null) => Tenant::default(),
            Some(Value::String(name)) => name
                .parse()
                .map_err(|error| Problem::from(error).field("payload.microdao_id"))?,
            Some(_) => {
                return Err(
                    Problem::new(mesh_types::Code::InvalidRequest, "payload.microdao_id must be a string")
                        .field("payload.microdao_id"),
                );
            }
        };
        let request = InvokeRequest {
            payload: self.payload,
            entrypoint: self.entrypoint,
            invocation_id: self.invocation_id,
            idempotency_key: self.idempotency_key,
            session: self.session,
            priority: self.priority,
            delay_ms: self.delay_ms,
            deadline_ms: self.deadline_ms,
            context: self.context,
            metadata: self.metadata,
            reply_to: self.reply_to,
            stream: false,
            intermediate_steps: self.intermediate_steps,
        };
        Ok((tenant, agent, request))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InvocationRequest {
    pub id: InvocationId,
}

/// An invocation as everyone sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Invocation {
    pub id: InvocationId,
    pub tenant: Tenant,
    pub agent: AgentName,
    pub version: u32,
    pub state: State,
    pub session: Option<String>,
    pub entrypoint: String,
    pub priority: u8,
    pub payload: Value,
    /// `{"text":…}` of an `llm` agent.
    pub output: Option<Value>,
    pub error: Option<Problem>,
    /// Who answered; `mock` where no model did.
    pub provider: Option<String>,
    pub usage: Usage,
    pub parent: Option<InvocationId>,
    pub forked_from: Option<ForkedFrom>,
    /// Claims so far: 1 if no worker was lost.
    pub attempt: u32,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// Highest committed record: the cursor to read on from.
    pub cursor: u32,
    /// Why it ended as it did, in one word: `operator_canceled`, `deadline_exceeded`, `limit_tokens` … Of a queued one
    /// `waits_for_node`, where it runs on nodes only.
    #[serde(default)]
    pub reason: Option<String>,
    /// What it waits for, while it waits.
    #[serde(default)]
    pub waits_for: Vec<crate::journal::WaitItem>,
    /// By itself; its agent, tenant or everything may be paused too.
    #[serde(default)]
    pub paused: bool,
    /// The first of its fork tree: itself, if it is no fork.
    #[serde(default)]
    pub root: Option<InvocationId>,
    /// Its steps, where the request said `intermediate_steps: true` and it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<Step>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ForkedFrom {
    pub invocation: InvocationId,
    pub step: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Queued,
    Running,
    Waiting,
    Completed,
    Failed,
    Cancelled,
    Dead,
}

impl State {
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Dead,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }

    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Dead)
    }
}

impl std::str::FromStr for State {
    type Err = Problem;
    fn from_str(text: &str) -> Result<Self, Problem> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| {
                Problem::new(mesh_types::Code::InvalidRequest, format!("`{text}` is no state"))
                    .field("state")
                    .next("one of queued running waiting completed failed cancelled dead")
            })
    }
}

impl From<Outcome> for State {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Completed => Self::Completed,
            Outcome::Failed => Self::Failed,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::Dead => Self::Dead,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct InvocationFilter {
    pub agent: Option<AgentName>,
    pub state: Option<State>,
    pub session: Option<String>,
    pub parent: Option<InvocationId>,
    pub root: Option<InvocationId>,
    /// Created at or after.
    pub since: Option<Timestamp>,
    /// Created before.
    pub until: Option<Timestamp>,
    /// Words of the short text, the error or the id.
    pub q: Option<String>,
}

/// Newest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ListRequest {
    #[serde(default)]
    pub filter: InvocationFilter,
    #[serde(default)]
    pub page: PageQuery,
}

/// Invocations by state; every state is named.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Counts {
    pub all: u64,
    pub queued: u64,
    pub running: u64,
    pub waiting: u64,
    pub completed: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub dead: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepsRequest {
    pub id: InvocationId,
    /// Whether input and output are read.
    pub bodies: Bodies,
    #[serde(default)]
    pub page: PageQuery,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bodies {
    Full,
    None,
}

/// One journaled effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Step {
    pub number: u32,
    pub kind: StepKind,
    pub name: String,
    pub effect: Effect,
    pub input: Option<Value>,
    pub output: Option<Value>,
    pub error: Option<Problem>,
    pub usage: Usage,
    pub attempt: u32,
    pub epoch: u32,
    pub started_at: Timestamp,
    /// `null` while it runs.
    pub ended_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CancelRequest {
    pub id: InvocationId,
    #[serde(default)]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeedRequest {
    pub invocation: InvocationId,
    /// Highest seq that the reader has; 0 for all.
    pub after_seq: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DeadLetterListRequest {
    #[serde(default)]
    pub page: PageQuery,
    /// Settled ones too.
    #[serde(default)]
    pub all: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetterRequest {
    pub id: DeadLetterId,
}

/// What could not be handled, with its reason; never dropped silently.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeadLetter {
    pub id: DeadLetterId,
    pub tenant: Tenant,
    /// `intake` for a message that was no invocation, `invocation` for one that ended dead.
    pub origin: String,
    pub reason: Problem,
    pub invocation: Option<InvocationId>,
    /// The message as it came, as text where it is UTF-8, else base64.
    pub message: Option<String>,
    pub subject: Option<String>,
    pub created_at: Timestamp,
    /// `discarded` or `requeued`, once a person settled it.
    pub settled: Option<String>,
}
