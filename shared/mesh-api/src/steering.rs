//! Endpoints of `execution` by which people steer: pause, signal, approve, fork, compare, replay, requeue.

use mesh_types::{AgentName, DeadLetterId, InvocationId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::execution::{DeadLetter, Empty, Invocation};
use crate::inference::PromptMessage;
use crate::journal::{Effect, StepKind, Usage, WaitItem};
use crate::page::{Page, PageQuery};

endpoints! { "execution";
    Pause = "pause", PauseRequest => PauseView, Operator, 10 s;
    Resume = "resume", PauseRequest => PauseView, Operator, 10 s;
    Pauses = "pauses", Empty => Page<PauseView>, Viewer, 5 s;
    InvocationSignal = "invocation-signal", SignalRequest => Invocation, Program, 10 s;
    InvocationFork = "invocation-fork", ForkRequest => ForkReply, Operator, 30 s;
    InvocationCompare = "invocation-compare", CompareRequest => Comparison, Viewer, 20 s;
    /// Re-runs the recording against the agent's current version, offline: no effect is run, nothing is written.
    InvocationReplay = "invocation-replay", ReplayRequest => ReplayReport, Viewer, 20 s;
    ApprovalList = "approval-list", ApprovalListRequest => Page<Approval>, Viewer, 10 s;
    ApprovalDecide = "approval-decide", DecideRequest => Invocation, Operator, 10 s;
    DeadLetterRequeue = "dead-letter-requeue", RequeueRequest => Requeued, Operator, 30 s;
}

/// Pause stops claiming, and running work at its next step; accepting goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PauseRequest {
    pub target: PauseTarget,
    #[serde(default)]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PauseTarget {
    Invocation(InvocationId),
    /// Of the caller's tenant.
    Agent(AgentName),
    /// The caller's tenant.
    Tenant,
    /// Every tenant of the installation.
    All,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PauseView {
    pub target: PauseTarget,
    pub paused: bool,
    pub by: String,
    pub reason: Option<String>,
    pub since: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalRequest {
    pub id: InvocationId,
    /// 1 to 256 bytes.
    pub name: String,
    #[serde(default)]
    pub value: Value,
    /// The same key twice is one signal; absent: each request is its own.
    #[serde(default)]
    pub key: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForkRequest {
    pub id: InvocationId,
    /// First step that is not taken over as it was recorded, from 1.
    pub from_step: u32,
    #[serde(default)]
    pub edit: Edit,
    #[serde(default)]
    pub dry_run: bool,
    /// Makes a repeat find the first fork.
    #[serde(default)]
    pub idempotency_key: Option<String>,
}

/// What is different in the fork. Unknown fields are refused by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Edit {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// Name of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Messages of the model step `from_step`, in the place of the recorded ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Vec<PromptMessage>>,
    /// Result of step `from_step`, in the place of the recorded one; that step is not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ForkReply {
    /// `None` of a dry run.
    pub invocation: Option<Invocation>,
    pub steps: Vec<ForkStep>,
}

/// What becomes of one recorded step of the source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ForkStep {
    pub step: u32,
    pub kind: StepKind,
    pub name: String,
    pub effect: Effect,
    pub fate: Fate,
    /// One sentence for people.
    pub because: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Taken over from the recording.
    Read,
    /// Its result, or its prompt, is the edited one.
    Replaced,
    /// Runs again.
    Run,
    /// at_most_once: answered from the recording if it is called with the same arguments, else a person is asked.
    Asked,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompareRequest {
    pub left: InvocationId,
    pub right: InvocationId,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Comparison {
    pub left: Invocation,
    pub right: Invocation,
    /// Steps that both share by their common recording.
    pub shared_steps: u32,
    /// First step that differs, if one does.
    pub first_difference: Option<u32>,
    pub steps: Vec<ComparedStep>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ComparedStep {
    pub step: u32,
    pub left: Option<StepDigest>,
    pub right: Option<StepDigest>,
    /// Of `kind`, `name`, `input`, `output`, `error` those that differ; empty: the same.
    pub differs: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StepDigest {
    pub kind: StepKind,
    pub name: String,
    pub usage: Usage,
    /// Milliseconds that it took.
    pub took_ms: u64,
    /// At most 160 characters of the output's text, or of the error.
    pub short_text: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplayRequest {
    pub id: InvocationId,
    /// Version of the agent to replay against; absent: the published one.
    #[serde(default)]
    pub version: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplayReport {
    pub id: InvocationId,
    pub recorded_version: u32,
    pub version: u32,
    /// Steps that were replayed.
    pub steps: u32,
    /// Empty: the recording is what this version would do.
    pub divergences: Vec<Divergence>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Divergence {
    pub step: u32,
    /// What the record says, such as `tool lookup`.
    pub recorded: String,
    /// What this version would do.
    pub planned: String,
    /// What is different, for people.
    pub because: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ApprovalListRequest {
    #[serde(default)]
    pub page: PageQuery,
}

/// A tool call that waits for a person, or a step of which nobody knows whether it happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Approval {
    /// `<invocation>-<step>`.
    pub id: String,
    pub invocation: InvocationId,
    pub agent: AgentName,
    pub step: u32,
    /// `approval` or `ambiguous`.
    pub kind: String,
    /// The tool.
    pub name: String,
    /// The arguments, as the model gave them.
    pub input: Value,
    pub since: Timestamp,
}

/// Of an approval, or of an ambiguous step: there `approve` means "it has not happened, run it again" and `deny`
/// that it failed; with `output` it happened and this is its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecideRequest {
    pub invocation: InvocationId,
    pub step: u32,
    pub decision: Decision,
    #[serde(default)]
    pub note: Option<String>,
    #[serde(default)]
    pub output: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Approve,
    Deny,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequeueRequest {
    pub id: DeadLetterId,
}

/// A dead letter is never reopened: its work goes on as a new invocation, linked to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Requeued {
    pub dead_letter: DeadLetter,
    pub invocation: Invocation,
}

/// What an open invocation waits for, as its view says it.
pub type WaitsFor = Vec<WaitItem>;
