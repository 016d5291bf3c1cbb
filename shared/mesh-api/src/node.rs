//! What a node asks of `execution`, at `mesh.node.<node>.execution.<endpoint>`: claim, append, alive, put, work.
//! Who asks is the node named in the subject; tenant and invocation stand in the signed ticket that it holds.

use std::collections::BTreeMap;

use mesh_types::agent::AgentSpec;
use mesh_types::{AgentName, InvocationId, NodeId, Problem, Tenant, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::journal::{Ended, Fact, Record, WaitItem};
use crate::steering::Edit;

endpoints! { "execution";
    NodeClaim = "claim", ClaimRequest => ClaimReply, Service, 5 s;
    NodeAppend = "append", AppendRequest => AppendReply, Service, 15 s;
    NodeAlive = "alive", AliveRequest => AliveReply, Service, 4 s;
    NodePut = "put", PutRequest => PutReply, Service, 10 s;
    NodeWork = "work", WorkRequest => WorkReply, Service, 10 s;
    /// The key that tickets are checked with, for every service that nodes ask.
    TicketKeyGet = "ticket-key", TicketKeyRequest => TicketKey, Service, 3 s;
    /// A ticket says what was granted; this, whether it still is.
    TicketHeld = "ticket-held", TicketHeldRequest => TicketHeldReply, Service, 3 s;
}

/// Streamed text at `mesh.node.<node>.execution.<this>`, without an answer: [`TokenBatch`].
pub const TOKEN: &str = "token";

/// Bytes that one message of a node holds at most.
pub const MESSAGE_BYTES_MAX: usize = 512 * 1024;
/// Bytes of one part of what is larger; with base64 around it, it fits a message.
pub const PART_BYTES_MAX: usize = 384 * 1024;
const _: () = assert!(PART_BYTES_MAX / 3 * 4 <= MESSAGE_BYTES_MAX);
/// A fact of more bytes of JSON goes ahead by [`NodePut`].
pub const FACT_BYTES_MAX: usize = 16 * 1024;

/// A bell at `mesh.bell.<node>`: claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bell {
    /// The execution process that rings.
    pub owner: String,
    /// Something is to stop: the answer to `alive` tells what.
    #[serde(default)]
    pub stops: bool,
}

/// Asks one owner for work. The same request id gets the same grants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClaimRequest {
    /// The execution process that rang; absent: whichever hears it. It tells the others that the node is there.
    #[serde(default)]
    pub owner: Option<String>,
    /// Grows with each start of the node.
    pub incarnation: u64,
    pub request_id: String,
    pub free_slots: u32,
    /// Invocations of each agent that it runs already, to keep `limits.concurrency`.
    #[serde(default)]
    pub running: Vec<(Tenant, AgentName, u32)>,
    /// Agents that it can run now: it grants no others. Absent: nobody has told the node what it is to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Vec<(Tenant, AgentName)>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClaimReply {
    /// Who answered.
    pub owner: String,
    pub grants: Vec<WireGrant>,
    /// Lease in milliseconds, from the sending of the request.
    pub lease_ms: u64,
    /// More work waits than slots were free.
    pub more: bool,
}

/// The right to act for one invocation under one epoch; goes with each request that does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    pub tenant: Tenant,
    pub agent: AgentName,
    pub invocation: InvocationId,
    pub shard: u16,
    pub epoch: u32,
    /// When the work was granted, by the clock of `execution`.
    pub issued_at: Timestamp,
    /// Ed25519 over all of the above and the node's name by a key of `execution`, in hexadecimal digits.
    pub signature: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketKeyRequest {}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketKey {
    /// Ed25519, 64 hexadecimal digits.
    pub public: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketHeldRequest {
    pub node: NodeId,
    pub invocation: InvocationId,
    pub epoch: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketHeldReply {
    /// It runs, on that node, under that epoch.
    pub held: bool,
    /// What it was accepted with; told of a held one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Whom it speaks with, as [`crate::memory::user_of`] finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Hash of the artifact that it is pinned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
}

/// Text that an invocation streams on a node, in order. `execution` passes on what the current holder says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenBatch {
    pub ticket: Ticket,
    pub chunks: Vec<crate::journal::TokenChunk>,
}

/// The right to run one invocation under one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WireGrant {
    pub ticket: Ticket,
    pub agent: AgentName,
    /// `None` where it is too large for this message: then it is read with [`NodeWork`].
    #[serde(default)]
    pub work: Option<Box<WireWork>>,
}

/// All that a worker needs to know of an invocation, as it is committed now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WireWork {
    pub version: u32,
    pub spec: AgentSpec,
    pub input: WireInput,
    /// Of a fork: where it leaves its source, and what is different.
    #[serde(default)]
    pub fork: Option<WireFork>,
    /// Of a fork: the source's records of the steps before it, oldest first.
    #[serde(default)]
    pub inherited: Vec<Record>,
    /// Of a fork: the source's records from its step on.
    #[serde(default)]
    pub recording: Vec<Record>,
    /// Every record, from seq 1.
    pub journal: Vec<Record>,
    #[serde(default)]
    pub deadline: Option<Timestamp>,
    /// Invocations above it that called it.
    #[serde(default)]
    pub depth: u32,
    /// Its place in a trace: the `traceparent`, and behind a blank the `tracestate` if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The call that it is, or its source, in another trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_link: Option<String>,
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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WireFork {
    pub from_step: u32,
    pub edit: Edit,
}

/// Reads the work of a grant page by page: its JSON as bytes, since one record may be larger than a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkRequest {
    pub ticket: Ticket,
    /// Of the first byte that is wanted.
    pub offset: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkReply {
    /// Base64 of at most [`PART_BYTES_MAX`] of the JSON of a [`WireWork`].
    pub bytes: String,
    /// Bytes of the whole.
    pub total: u64,
    /// SHA-256 of the whole, 64 hexadecimal digits: pages of two readings are not mixed.
    pub hash: String,
}

/// Appends of several invocations, best of one owner, in one message of at most 512 KiB.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppendRequest {
    pub incarnation: u64,
    pub appends: Vec<OneAppend>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OneAppend {
    pub ticket: Ticket,
    pub after_seq: u32,
    pub facts: Vec<Sent<Fact>>,
    pub then: WireThen,
}

/// Here, or ahead by [`NodePut`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Sent<T> {
    Ahead(Put),
    Here(T),
}

/// Names a body that was sent ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Put {
    /// SHA-256 of its JSON, 64 hexadecimal digits.
    pub put: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WireThen {
    GoOn,
    Wait(Vec<WaitItem>),
    End(Sent<Box<Ended>>),
    /// The node drains: it is runnable elsewhere at once, and nothing was lost.
    Release,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppendReply {
    /// In the order of the request.
    pub answers: Vec<OneAnswer>,
    pub lease_ms: u64,
    /// Owners of the shards that the request named, as far as they are known: what goes together next time.
    #[serde(default)]
    pub owners: BTreeMap<u16, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OneAnswer {
    Ok {
        seq: u32,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        news: Vec<Record>,
        next: NextWord,
    },
    /// Stop at once, without further effects.
    Stale,
    /// Another result was first: read the journal with [`NodeWork`] and go on from there.
    Conflict,
    Refused(Problem),
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

/// Everything that the node holds; every owner is told its part, and what it does not find was lost on the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AliveRequest {
    pub incarnation: u64,
    pub held: Vec<HeldWork>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldWork {
    pub invocation: InvocationId,
    pub shard: u16,
    pub epoch: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AliveReply {
    pub lease_ms: u64,
    /// Cancelled, or not held by this node any more.
    pub stop: Vec<InvocationId>,
    /// Their owner did not answer: their lease is not renewed.
    #[serde(default)]
    pub unanswered: Vec<InvocationId>,
}

/// A part of a body, before the append that names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PutRequest {
    pub ticket: Ticket,
    /// SHA-256 of the whole body, 64 hexadecimal digits.
    pub hash: String,
    /// From 0.
    pub part: u32,
    /// Base64 of [`PART_BYTES_MAX`] bytes, or fewer in the last part.
    pub bytes: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PutReply {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_and_what_was_sent_ahead_are_told_apart() {
        let put = Sent::<Fact>::Ahead(Put { put: "ab".into() });
        let json = serde_json::to_string(&put).unwrap();
        assert_eq!(json, r#"{"put":"ab"}"#);
        assert_eq!(serde_json::from_str::<Sent<Fact>>(&json).unwrap(), put);
        let fact = Fact::Released(crate::journal::Released {
            reason: "paused".into(),
        });
        let here = Sent::Here(fact);
        let json = serde_json::to_string(&here).unwrap();
        assert_eq!(serde_json::from_str::<Sent<Fact>>(&json).unwrap(), here);
    }
}
