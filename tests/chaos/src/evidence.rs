//! All that a run leaves behind and the checker judges: what clients were told, what Postgres holds, what the ledger and
//! the model saw. Plain data; nothing here reads or decides.

use std::collections::BTreeMap;

use mesh_api::journal::{Fact, Outcome, Usage};
use mesh_types::{InvocationId, Timestamp};
use serde_json::Value;

#[derive(Debug, Clone, Default)]
pub struct Evidence {
    pub asked: Vec<Asked>,
    /// Published messages that can never be an invocation, by a text in them.
    pub poison: Vec<String>,
    pub journal: Journal,
    pub ledger: Vec<Call>,
    pub model: Vec<ModelCall>,
    pub followed: Vec<Followed>,
    /// Results that came to `reply_to` subjects, by idempotency key.
    pub replies: BTreeMap<String, Vec<Value>>,
    pub faults: Faults,
}

/// One idempotency key, and what came back for it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    pub key: String,
    pub agent: String,
    pub session: Option<String>,
    /// Somebody was told that it is accepted for good.
    pub accepted: bool,
    /// Every id that was answered for this key.
    pub ids: Vec<InvocationId>,
    /// A subject was named for the result.
    pub wants_reply: bool,
    /// It may not start before so long after it was accepted.
    pub delay_ms: u64,
    /// Where the agent answers, if it was asked in a channel.
    pub channel: Option<String>,
    /// Somebody cancelled it, so that it may end otherwise than completed.
    pub cancelled: bool,
    /// An answer that nothing may get: such as a 5xx that names no reason, or a 4xx for a good request.
    pub refused: Option<String>,
}

/// What Postgres holds at the end.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    pub invocations: BTreeMap<InvocationId, Invocation>,
    /// Rows of `open`, and their state.
    pub open: Vec<(InvocationId, String)>,
    /// Rows of `mail` that nobody took.
    pub mail: u64,
    pub keys: BTreeMap<String, InvocationId>,
    pub shards: Vec<Shard>,
    /// Every time that a shard was taken or handed over.
    pub takeovers: Vec<Takeover>,
    /// Messages in `dead_letter` that were no invocation.
    pub dead_messages: Vec<String>,
    /// Memories by the invocation that stored them; what was found to be known already counts, too.
    pub memories: BTreeMap<InvocationId, u64>,
    /// Agents' messages by channel.
    pub replies_by_channel: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Default)]
pub struct Invocation {
    pub agent: String,
    pub key: Option<String>,
    pub session: Option<String>,
    pub parent: Option<InvocationId>,
    pub shard: i16,
    pub created_at: Option<Timestamp>,
    pub records: Vec<Entry>,
    pub ended: Option<EndedRow>,
    /// State in the read model of lists.
    pub summary: Option<String>,
}

/// One row of `record`.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub seq: u32,
    pub epoch: u32,
    pub at: Timestamp,
    /// Its column; stands also for facts that this build cannot read.
    pub kind: String,
    pub fact: Option<Fact>,
    /// (batch, ordinal) in the shard's feed: the order of commits.
    pub places: Vec<(i64, usize)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct EndedRow {
    pub outcome: String,
    pub reason: Option<String>,
    pub seq: u32,
    pub usage: Usage,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shard {
    pub id: i16,
    pub epoch: i64,
    pub batch: i64,
    pub relayed_batch: i64,
    /// Batches in `feed`, in order.
    pub fed: Vec<i64>,
}

/// One change of a shard's owner, also from a process to the one that was started in its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Takeover {
    pub shard: i16,
    pub owner: String,
    pub epoch_before: i64,
    pub epoch: i64,
}

/// One call that reached the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `pure`, `idempotent` or `at_most_once`.
    pub class: String,
    /// `Idempotency-Key`: `<invocation>/<step>`.
    pub key: String,
    /// What the model asked for, the same however often and under whatever key it is asked.
    pub op: String,
    pub at: Timestamp,
}

/// One call that reached the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCall {
    pub key: String,
    pub at: Timestamp,
    /// What it answered, if it answered to the end.
    pub answered: Option<(u64, u64)>,
}

/// What one reader of `/events` was told, over all its connections.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Followed {
    pub invocation: Option<InvocationId>,
    pub events: Vec<Told>,
    pub connections: u32,
    /// The stream said that nothing follows.
    pub finished: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub id: String,
    pub event: String,
    pub data: Value,
    /// The data as it came.
    pub raw: String,
}

/// What was done to the processes, as far as it excuses or measures something.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// From SIGSTOP to SIGCONT of anything: an effect may be late by as much.
    pub freezes: Vec<(Timestamp, Timestamp)>,
    /// While NATS was down or frozen: who was not connected heard nothing.
    pub nats_away: Vec<(Timestamp, Timestamp)>,
    /// While Postgres was down.
    pub postgres_away: Vec<(Timestamp, Timestamp)>,
    /// Deaths of processes by name; of execution, its instance.
    pub kills: Vec<(String, Timestamp)>,
}

impl Invocation {
    pub fn outcome(&self) -> Option<Outcome> {
        self.records.iter().find_map(|entry| match &entry.fact {
            Some(Fact::Ended(ended)) => Some(ended.outcome),
            _ => None,
        })
    }

    /// Records of that kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.records.iter().filter(move |entry| entry.kind == kind)
    }
}

/// The parts of `<invocation>/<step>`.
pub(crate) fn parse_key(key: &str) -> Option<(InvocationId, u32)> {
    let (invocation, step) = key.rsplit_once('/')?;
    Some((invocation.parse().ok()?, step.parse().ok()?))
}
