//! Rows of a batch, folded into columns: one array a column, so that one statement writes any number of rows.

use chrono::{DateTime, Utc};
use mesh_api::journal::{Fact, Record};
use mesh_store::IdExt;
use mesh_types::{DeadLetterId, Timestamp};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::wide::WideColumns;
use crate::core::{After, Decision, EndRow, Meta, OpenRow, RunState};

/// A record's JSON above this many bytes lies in `body`, by its hash (EXECUTION.md §6.6).
pub(crate) const BODY_INLINE_MAX: usize = 16 * 1024;
/// Bytes of one part in `body`.
pub(crate) const BODY_PART: usize = 512 * 1024;

pub(super) type Time = DateTime<Utc>;

/// Everything one batch writes besides its fences.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    pub(crate) invocation: InvocationColumns,
    pub(crate) opened: OpenColumns,
    pub(crate) changed: OpenColumns,
    pub(crate) closed: ClosedColumns,
    pub(crate) record: RecordColumns,
    pub(crate) body: BodyColumns,
    pub(crate) ended: EndedColumns,
    pub(crate) key: KeyColumns,
    pub(crate) dead: DeadColumns,
    pub(crate) wide: WideColumns,
    /// Sum of the variable-length bytes, for the batch's limit.
    pub(crate) bytes: usize,
}

/// Declares columns as vectors that are pushed to together.
macro_rules! columns {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $name { $(pub(crate) $field: Vec<$type>,)* }
    )*};
}
pub(super) use columns;

columns! {
    InvocationColumns {
        shard: i16, id: Uuid, tenant: String, agent: String, version: i32, artifact: String, entrypoint: String,
        session: Option<String>, key: Option<String>, priority: i16, created_at: Time, deadline_at: Option<Time>,
        request_hash: Vec<u8>, reply_to: Option<String>, actor: String, input: Vec<u8>,
    }
    OpenColumns {
        shard: i16, id: Uuid, tenant: String, state: &'static str, epoch: i32, node: Option<String>,
        incarnation: Option<i64>, wake_at: Option<Time>, priority: i16, started_at: Option<Time>,
    }
    ClosedColumns { shard: i16, id: Uuid, }
    RecordColumns {
        shard: i16, id: Uuid, seq: i32, tenant: String, epoch: i32, at: Time, kind: &'static str, step: Option<i32>,
        attempt: Option<i32>, class: Option<&'static str>, input_hash: Option<Vec<u8>>, body: Option<Vec<u8>>,
        body_hash: Option<Vec<u8>>, input_tokens: Option<i64>, output_tokens: Option<i64>, cost_usd: Option<f64>,
        started_at: Option<Time>, ended_at: Option<Time>,
    }
    BodyColumns { shard: i16, root: Uuid, hash: Vec<u8>, part: i32, tenant: String, bytes: Vec<u8>, }
    EndedColumns {
        shard: i16, id: Uuid, tenant: String, outcome: &'static str, reason: Option<String>, provider: Option<String>,
        epoch: i32, seq: i32, started_at: Option<Time>, ended_at: Time, input_tokens: i64, output_tokens: i64,
        cost_usd: f64, output: Option<Vec<u8>>, error: Option<Vec<u8>>, key: Option<String>,
    }
    KeyColumns { shard: i16, tenant: String, key: String, request_hash: Vec<u8>, id: Uuid, }
    DeadColumns { shard: i16, id: Uuid, tenant: String, reason: Vec<u8>, invocation: Uuid, created_at: Time, }
}

pub(super) fn time(at: Timestamp) -> Time {
    at.to_chrono()
}

pub(super) fn int(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

pub(super) fn big(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    // Maps with text keys and finite trees always serialise.
    serde_json::to_vec(value).unwrap_or_default()
}

impl Columns {
    pub(crate) fn push(&mut self, decision: &Decision) {
        let meta = &decision.meta;
        let shard = meta.shard.cast_signed();
        match &decision.after {
            After::Opened(row) => {
                self.push_invocation(meta);
                if row.is_plain() {
                    self.opened.push(shard, meta, row);
                } else {
                    self.wide.opened.push(shard, meta, row);
                }
            }
            After::Grew { .. } => {}
            After::Changed { row, wide: false } => self.changed.push(shard, meta, row),
            After::Changed { row, wide: true } => self.wide.changed.push(shard, meta, row),
            After::Ended(end) => {
                self.closed.shard.push(shard);
                self.closed.id.push(meta.id.to_uuid());
                self.push_end(meta, end);
            }
            After::Merged(end) => {
                self.push_invocation(meta);
                self.push_end(meta, end);
            }
        }
        self.wide.push_mail(shard, decision);
        if let Some(also) = &decision.also {
            self.push(also);
        }
        for record in &decision.records {
            self.push_record(meta, record);
        }
    }

    fn push_invocation(&mut self, meta: &Meta) {
        let to = match &meta.links {
            None => &mut self.invocation,
            Some(links) => {
                self.wide.links.push(meta, links);
                &mut self.wide.linked
            }
        };
        let input = json(&meta.input);
        self.bytes += input.len() + 256;
        to.shard.push(meta.shard.cast_signed());
        to.id.push(meta.id.to_uuid());
        to.tenant.push(meta.tenant.to_string());
        to.agent.push(meta.agent.to_string());
        to.version.push(int(meta.version));
        to.artifact.push(meta.artifact.clone());
        to.entrypoint.push(meta.entrypoint.clone());
        to.session.push(meta.session.clone());
        to.key.push(meta.key.clone());
        to.priority.push(meta.priority.into());
        to.created_at.push(time(meta.created_at));
        to.deadline_at.push(meta.deadline_at.map(time));
        to.request_hash.push(meta.request_hash.to_vec());
        to.reply_to.push(meta.reply_to.clone());
        to.actor.push(meta.actor.clone());
        to.input.push(input);
        if let Some(key) = &meta.key {
            self.key.shard.push(meta.shard.cast_signed());
            self.key.tenant.push(meta.tenant.to_string());
            self.key.key.push(key.clone());
            self.key.request_hash.push(meta.request_hash.to_vec());
            self.key.id.push(meta.id.to_uuid());
        }
    }

    fn push_end(&mut self, meta: &Meta, end: &EndRow) {
        let shard = meta.shard.cast_signed();
        let output = end.output.as_ref().map(json);
        let error = end.error.as_ref().map(json);
        self.bytes += output.as_ref().map_or(0, Vec::len) + error.as_ref().map_or(0, Vec::len) + 128;
        if end.outcome == mesh_api::journal::Outcome::Dead {
            let dead = &mut self.dead;
            dead.shard.push(shard);
            // One dead letter an invocation: its id is the invocation's.
            dead.id.push(dead_letter_of(meta).to_uuid());
            dead.tenant.push(meta.tenant.to_string());
            dead.reason.push(error.clone().unwrap_or_default());
            dead.invocation.push(meta.id.to_uuid());
            dead.created_at.push(time(end.ended_at));
        }
        let to = &mut self.ended;
        to.shard.push(shard);
        to.id.push(meta.id.to_uuid());
        to.tenant.push(meta.tenant.to_string());
        to.outcome.push(end.outcome.as_str());
        to.reason.push(end.reason.clone());
        to.provider.push(end.provider.clone());
        to.epoch.push(int(end.epoch));
        to.seq.push(int(end.seq));
        to.started_at.push(end.started_at.map(time));
        to.ended_at.push(time(end.ended_at));
        to.input_tokens.push(big(end.usage.input_tokens));
        to.output_tokens.push(big(end.usage.output_tokens));
        to.cost_usd.push(end.usage.cost_usd);
        to.output.push(output);
        to.error.push(error);
        to.key.push(meta.key.clone());
    }

    fn push_record(&mut self, meta: &Meta, record: &Record) {
        let shard = meta.shard.cast_signed();
        let body = json(&record.fact);
        self.bytes += body.len() + 128;
        let to = &mut self.record;
        to.shard.push(shard);
        to.id.push(meta.id.to_uuid());
        to.seq.push(int(record.seq));
        to.tenant.push(meta.tenant.to_string());
        to.epoch.push(int(record.epoch));
        to.at.push(time(record.at));
        to.push_fact(&record.fact);
        if body.len() <= BODY_INLINE_MAX {
            to.body.push(Some(body));
            to.body_hash.push(None);
        } else {
            let hash = Sha256::digest(&body).to_vec();
            to.body.push(None);
            to.body_hash.push(Some(hash.clone()));
            for (part, bytes) in body.chunks(BODY_PART).enumerate() {
                self.body.shard.push(shard);
                self.body.root.push(meta.root().to_uuid());
                self.body.hash.push(hash.clone());
                self.body.part.push(int(u32::try_from(part).unwrap_or(u32::MAX)));
                self.body.tenant.push(meta.tenant.to_string());
                self.body.bytes.push(bytes.to_vec());
            }
        }
    }
}

/// The dead letter of an invocation that ended dead.
pub(crate) fn dead_letter_of(meta: &Meta) -> DeadLetterId {
    use mesh_types::Id;
    DeadLetterId::from_u128(meta.id.as_u128())
}

impl RecordColumns {
    /// The columns that queries look at; the fact itself is the body.
    fn push_fact(&mut self, fact: &Fact) {
        self.kind.push(kind_of(fact));
        let (mut step, mut attempt, mut class, mut input_hash) = (None, None, None, None);
        let (mut usage, mut started_at, mut ended_at) = (None, None, None);
        match fact {
            Fact::Begun(begun) => {
                step = Some(int(begun.step));
                class = Some(begun.effect.as_str());
                input_hash = Some(Sha256::digest(json(&begun.input)).to_vec());
            }
            Fact::Done(done) => {
                step = Some(int(done.step));
                attempt = Some(int(done.attempt));
                class = Some(done.effect.as_str());
                usage = Some(done.usage);
                started_at = Some(time(done.started_at));
                ended_at = Some(time(done.ended_at));
            }
            _ => {}
        }
        self.step.push(step);
        self.attempt.push(attempt);
        self.class.push(class);
        self.input_hash.push(input_hash);
        self.input_tokens.push(usage.map(|usage| big(usage.input_tokens)));
        self.output_tokens.push(usage.map(|usage| big(usage.output_tokens)));
        self.cost_usd.push(usage.map(|usage| usage.cost_usd));
        self.started_at.push(started_at);
        self.ended_at.push(ended_at);
    }
}

pub(crate) fn kind_of(fact: &Fact) -> &'static str {
    match fact {
        Fact::Accepted(_) => "accepted",
        Fact::Claimed(_) => "claimed",
        Fact::Begun(_) => "begun",
        Fact::Done(_) => "done",
        Fact::Waiting(_) => "waiting",
        Fact::Signalled(_) => "signalled",
        Fact::Released(_) => "released",
        Fact::Paused(_) => "paused",
        Fact::Resumed(_) => "resumed",
        Fact::CancelRequested(_) => "cancel_requested",
        Fact::Ended(_) => "ended",
    }
}

impl OpenColumns {
    fn push(&mut self, shard: i16, meta: &Meta, row: &OpenRow) {
        let holder = match &row.state {
            RunState::Queued | RunState::Waiting(_) => None,
            RunState::Running(holder) => Some(holder),
        };
        self.shard.push(shard);
        self.id.push(meta.id.to_uuid());
        self.tenant.push(meta.tenant.to_string());
        self.state.push(row.state.state().as_str());
        self.epoch.push(int(row.epoch));
        self.node.push(holder.map(|holder| holder.node.to_string()));
        self.incarnation.push(holder.map(|holder| big(holder.incarnation)));
        self.wake_at.push(meta.wake_at.map(time));
        self.priority.push(meta.priority.into());
        self.started_at.push(row.started_at.map(time));
    }
}
