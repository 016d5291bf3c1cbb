//! Records of the journal: what happened in one invocation, gapless from seq 1. The truth that all else is read from.

pub use mesh_types::tool::Effect;
use mesh_types::{AgentName, InvocationId, Problem, Tenant, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One committed record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Record {
    /// Gapless per invocation, from 1; the cursor of its readers.
    pub seq: u32,
    /// Raised by every claim; a record of an older epoch is refused.
    pub epoch: u32,
    pub at: Timestamp,
    #[serde(flatten)]
    pub fact: Fact,
}

/// What a record says. Unknown kinds are never written by this version and never dropped by it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Fact {
    Accepted(Accepted),
    Claimed(Claimed),
    Begun(Begun),
    Done(Box<Done>),
    /// Let go until one of these has happened; written by the owner.
    Waiting(Waiting),
    /// Something that a wait may be for: kept until a step consumes it. Written by the owner.
    Signalled(Box<Signalled>),
    /// Taken back from its worker without a loss: paused, or its process drains.
    Released(Released),
    Paused(Paused),
    Resumed(Paused),
    CancelRequested(CancelRequested),
    Ended(Box<Ended>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Accepted {
    pub agent: AgentName,
    pub version: u32,
    pub actor: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Claimed {
    /// The node or, for hosted work, the execution process.
    pub holder: String,
    /// Grows with each start of the holder.
    pub incarnation: u64,
}

/// A step that is about to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Begun {
    /// From 1 within the invocation.
    pub step: u32,
    pub kind: StepKind,
    pub name: String,
    pub effect: Effect,
    pub input: Value,
}

/// A step whose result is recorded: it is never executed again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Done {
    pub step: u32,
    pub kind: StepKind,
    pub name: String,
    pub effect: Effect,
    /// `None` where a `begun` record holds it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Why the step has no output, or what it had to do without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    #[serde(default)]
    pub usage: Usage,
    /// Tries it took, from 1.
    pub attempt: u32,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Waiting {
    /// Any of them wakes it; never empty.
    pub items: Vec<WaitItem>,
}

/// One thing that is waited for, by the step that waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WaitItem {
    pub step: u32,
    #[serde(flatten)]
    pub on: WaitOn,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "on", rename_all = "snake_case")]
pub enum WaitOn {
    Timer {
        until: Timestamp,
    },
    /// A person allows or denies the tool call that the step's `begun` record shows.
    Approval {
        tool: String,
    },
    Signal {
        name: String,
        /// When the step gives up waiting.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    Child {
        invocation: InvocationId,
    },
    /// An at_most_once step was in flight when its worker was lost: its late result, or a person, settles it.
    Ambiguous {
        name: String,
    },
}

/// What came from outside of the worker, with its key: a repeat changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Signalled {
    pub key: String,
    pub about: About,
    pub actor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum About {
    Signal {
        name: String,
        #[serde(default)]
        value: Value,
    },
    Approval {
        step: u32,
        approved: bool,
    },
    /// A child has ended.
    Child {
        step: u32,
        invocation: InvocationId,
        outcome: Outcome,
        #[serde(default)]
        output: Option<Value>,
        #[serde(default)]
        error: Option<Problem>,
        #[serde(default)]
        usage: Usage,
    },
    /// An ambiguous step is settled.
    Resolved {
        step: u32,
        how: Resolution,
    },
    /// A message of the same session joined this invocation before it started.
    Merged {
        invocation: InvocationId,
        payload: Value,
    },
}

impl About {
    /// The step that it is for; a signal goes to whoever waits for its name.
    pub const fn step(&self) -> Option<u32> {
        match self {
            Self::Approval { step, .. } | Self::Child { step, .. } | Self::Resolved { step, .. } => Some(*step),
            Self::Signal { .. } | Self::Merged { .. } => None,
        }
    }

    /// Whether it ends that wait.
    pub fn wakes(&self, item: &WaitItem) -> bool {
        match (self, &item.on) {
            (Self::Signal { name, .. }, WaitOn::Signal { name: awaited, .. }) => name == awaited,
            (Self::Approval { step, .. }, WaitOn::Approval { .. })
            | (Self::Child { step, .. }, WaitOn::Child { .. })
            | (Self::Resolved { step, .. }, WaitOn::Ambiguous { .. }) => *step == item.step,
            _ => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "as", rename_all = "snake_case")]
pub enum Resolution {
    /// A person says that it has not happened.
    RunAgain,
    /// It happened, with this result.
    Done {
        output: Value,
        #[serde(default)]
        usage: Usage,
    },
    /// It is taken as failed.
    Failed { error: Problem },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Released {
    /// `paused`, `draining` or `handed_over`.
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Paused {
    pub actor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CancelRequested {
    pub actor: String,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Ended {
    pub outcome: Outcome,
    /// Why, in one word where it is not completed: `deadline_exceeded`, `operator_canceled`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    #[serde(default)]
    pub usage: Usage,
    /// Who answered: the provider of the last model step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Completed,
    Failed,
    Cancelled,
    Dead,
}

impl Outcome {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }
}

/// Kinds of steps (CONTRACT, "A step").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub enum StepKind {
    #[serde(rename = "context.messages")]
    ContextMessages,
    #[serde(rename = "context.memories")]
    ContextMemories,
    #[serde(rename = "model")]
    Model,
    #[serde(rename = "tool")]
    Tool,
    #[serde(rename = "message.post")]
    MessagePost,
    #[serde(rename = "memory.store")]
    MemoryStore,
    #[serde(rename = "timer")]
    Timer,
    #[serde(rename = "signal")]
    Signal,
    #[serde(rename = "approval")]
    Approval,
    #[serde(rename = "child")]
    Child,
    #[serde(rename = "noop")]
    Noop,
}

impl StepKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ContextMessages => "context.messages",
            Self::ContextMemories => "context.memories",
            Self::Model => "model",
            Self::Tool => "tool",
            Self::MessagePost => "message.post",
            Self::MemoryStore => "memory.store",
            Self::Timer => "timer",
            Self::Signal => "signal",
            Self::Approval => "approval",
            Self::Child => "child",
            Self::Noop => "noop",
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Usage {
    #[serde(default)]
    pub input_tokens: u64,
    #[serde(default)]
    pub output_tokens: u64,
    /// US dollars.
    #[serde(default)]
    pub cost_usd: f64,
}

impl Usage {
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens + other.input_tokens,
            output_tokens: self.output_tokens + other.output_tokens,
            cost_usd: self.cost_usd + other.cost_usd,
        }
    }
}

/// What JOURNAL carries for one invocation and relay pass, and what the feed endpoint answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalPage {
    pub tenant: Tenant,
    pub invocation: InvocationId,
    pub records: Vec<Record>,
    /// Whether more records are committed than this page holds.
    #[serde(default)]
    pub more: bool,
}

/// A [`JournalPage`] to be written, of what lies elsewhere.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct JournalPageRef<'a> {
    pub tenant: &'a Tenant,
    pub invocation: InvocationId,
    pub records: &'a [Record],
    pub more: bool,
    pub agent: &'a AgentName,
    pub version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<&'a str>,
    /// Batch and ordinal of each record, as in [`crate::live::FeedNote`].
    pub places: &'a [(i64, u32)],
}

/// A piece of streamed text on `mesh.token.…`; superseded by the step's record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TokenChunk {
    pub step: u32,
    pub epoch: u32,
    pub attempt: u32,
    pub block: u32,
    /// Bytes of text before this chunk within (step, epoch, attempt, block). 0 announces a new attempt.
    pub offset: u64,
    pub text: String,
}
