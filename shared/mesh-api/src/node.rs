//! What a node asks of `execution`, at `mesh.node.<node>.execution.<endpoint>`: claim, append, alive, put, journal.
//! Who asks is the node named in the subject; tenant and invocation stand in the grant that it holds.

use mesh_types::agent::AgentSpec;
use mesh_types::{AgentName, InvocationId, Tenant, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::journal::{Ended, Fact, Record, WaitItem};

endpoints! { "execution";
    Claim = "claim", ClaimRequest => ClaimReply, Service, 10 s;
    Append = "append", AppendRequest => AppendReply, Service, 20 s;
    Alive = "alive", AliveRequest => AliveReply, Service, 5 s;
    PutBody = "put", PutRequest => PutReply, Service, 20 s;
}

/// Asks one owner for work. The same request id gets the same grants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClaimRequest {
    /// The execution process that rang; absent: whichever has work.
    #[serde(default)]
    pub owner: Option<String>,
    /// Grows with each start of the node.
    pub incarnation: u64,
    pub request_id: String,
    pub free_slots: u32,
    /// Invocations of each agent that it runs already, to keep `limits.concurrency`.
    #[serde(default)]
    pub running: Vec<(Tenant, AgentName, u32)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClaimReply {
    /// Who answered: appends and `alive` of these grants go there.
    pub owner: String,
    pub grants: Vec<WireGrant>,
    /// Lease in milliseconds, from the sending of the request.
    pub lease_ms: u64,
    /// More work waits than slots were free.
    pub more: bool,
}

/// The right to run one invocation under one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WireGrant {
    pub tenant: Tenant,
    pub invocation: InvocationId,
    pub agent: AgentName,
    pub version: u32,
    pub spec: AgentSpec,
    pub input: WireInput,
    pub epoch: u32,
    /// Steps of the invocation that it was forked from, if it was.
    #[serde(default)]
    pub inherited: Vec<Record>,
    pub journal: Vec<Record>,
    /// More of the journal than fits: read it by `journal_after`.
    #[serde(default)]
    pub deadline: Option<Timestamp>,
    /// Over tenant, invocation, epoch and node, by a key of `execution`; goes with each append.
    pub signature: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WireInput {
    pub payload: Value,
    pub entrypoint: String,
    #[serde(default)]
    pub context: Map<String, Value>,
    #[serde(default)]
    pub metadata: Map<String, Value>,
    #[serde(default)]
    pub session: Option<String>,
}

/// Appends of several invocations of one owner travel together; at most 512 KiB.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppendRequest {
    pub owner: String,
    pub incarnation: u64,
    pub appends: Vec<OneAppend>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OneAppend {
    pub invocation: InvocationId,
    pub epoch: u32,
    pub signature: String,
    pub after_seq: u32,
    pub facts: Vec<Fact>,
    pub then: WireThen,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WireThen {
    GoOn,
    Wait(Vec<WaitItem>),
    End(Box<Ended>),
}

/// In the order of the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppendReply {
    pub answers: Vec<OneAnswer>,
    pub lease_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OneAnswer {
    Ok {
        seq: u32,
        news: Vec<Record>,
        next: NextWord,
    },
    /// Stop at once, without further effects.
    Stale,
    Conflict {
        committed: Vec<Record>,
    },
    Refused(mesh_types::Problem),
    /// Not known yet whether it is committed: send the same bytes again.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NextWord {
    GoOn,
    /// The wait is committed: let go.
    Waiting,
    /// Paused or draining: what came is committed, let go.
    Stop,
}

/// Everything that the node holds of this owner; what it does not name was lost on the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AliveRequest {
    pub owner: String,
    pub incarnation: u64,
    pub held: Vec<(InvocationId, u32)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AliveReply {
    pub lease_ms: u64,
    /// Cancelled, paused or not held by this node any more.
    pub stop: Vec<InvocationId>,
}

/// A part of a body over 16 KiB, before the record that names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PutRequest {
    pub owner: String,
    pub invocation: InvocationId,
    pub epoch: u32,
    pub signature: String,
    /// SHA-256 of the whole body, 64 hexadecimal digits.
    pub hash: String,
    pub part: u32,
    /// At most 512 KiB, base64.
    pub bytes: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PutReply {}
