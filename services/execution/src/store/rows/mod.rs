//! Rows of a batch, gathered by the part of the fenced statement that writes them.

mod types;

use mesh_api::journal::{Done, Fact, Outcome, Record};
use mesh_store::IdExt;
use mesh_types::{DeadLetterId, Timestamp};
use sha2::{Digest, Sha256};

use crate::core::{After, Decision, EndRow, Meta, OpenRow, RunState};
pub(crate) use types::{
    BodyRow, DeadRow, EndedRow, FenceRow, GoneRow, InvocationRow, KeyRow, MailRow, OpenedRow, RecordRow, Time,
    WrittenSummary,
};

/// A record's JSON above this many bytes lies in `body`, by its hash (EXECUTION.md §6.6).
pub(crate) const BODY_INLINE_MAX: usize = 16 * 1024;
/// Bytes of one part in `body`.
pub(crate) const BODY_PART: usize = 512 * 1024;

/// Everything one batch writes besides its fences.
#[derive(Debug, Default)]
pub(crate) struct Rows<'a> {
    pub(crate) invocation: Vec<InvocationRow<'a>>,
    pub(crate) opened: Vec<OpenedRow<'a>>,
    pub(crate) changed: Vec<OpenedRow<'a>>,
    pub(crate) closed: Vec<GoneRow>,
    pub(crate) record: Vec<RecordRow<'a>>,
    pub(crate) body: Vec<BodyRow<'a>>,
    pub(crate) ended: Vec<EndedRow<'a>>,
    pub(crate) key: Vec<KeyRow<'a>>,
    pub(crate) dead: Vec<DeadRow<'a>>,
    pub(crate) mail: Vec<MailRow<'a>>,
    /// Mail that was read.
    pub(crate) letters: Vec<GoneRow>,
}

fn time(at: Timestamp) -> Time {
    at.to_chrono()
}

fn int(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn big(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    // Maps with text keys and finite trees always serialise.
    serde_json::to_vec(value).unwrap_or_default()
}

impl<'a> Rows<'a> {
    pub(crate) fn push(&mut self, decision: &'a Decision) {
        let meta = &*decision.meta;
        let shard = meta.shard.cast_signed();
        match &decision.after {
            After::Opened(row) => {
                self.push_invocation(meta);
                self.opened.push(open_row(meta, row));
            }
            After::Grew { .. } => {}
            After::Changed { row } => self.changed.push(open_row(meta, row)),
            After::Ended(end) => {
                let id = meta.id.to_uuid();
                self.closed.push(GoneRow { shard, id });
                self.push_end(meta, end);
            }
            After::Merged(end) => {
                self.push_invocation(meta);
                self.push_end(meta, end);
            }
        }
        self.push_mail(decision);
        if let Some(also) = &decision.also {
            self.push(also);
        }
        for record in &decision.records {
            self.push_record(meta, record);
        }
    }

    fn push_invocation(&mut self, meta: &'a Meta) {
        let (parent, fork) = (meta.parent(), meta.fork());
        self.invocation.push(InvocationRow {
            shard: meta.shard.cast_signed(),
            id: meta.id.to_uuid(),
            tenant: meta.tenant.as_str(),
            agent: meta.agent.as_str(),
            version: int(meta.version),
            artifact: &meta.artifact,
            entrypoint: &meta.entrypoint,
            session: meta.session.as_deref(),
            key: meta.key.as_deref(),
            priority: meta.priority.into(),
            parent: parent.map(|parent| parent.invocation.to_uuid()),
            parent_step: parent.map(|parent| int(parent.step)),
            root: meta.root().to_uuid(),
            fork_of: fork.map(|fork| fork.of.to_uuid()),
            fork_step: fork.map(|fork| int(fork.from_step)),
            depth: meta.depth().cast_signed(),
            created_at: time(meta.created_at),
            deadline_at: meta.deadline_at.map(time),
            request_hash: &meta.request_hash,
            reply_to: meta.reply_to.as_deref(),
            actor: &meta.actor,
            input: json(&meta.input),
        });
        if let Some(key) = &meta.key {
            self.key.push(KeyRow {
                shard: meta.shard.cast_signed(),
                tenant: meta.tenant.as_str(),
                key,
                request_hash: &meta.request_hash,
                id: meta.id.to_uuid(),
            });
        }
    }

    fn push_end(&mut self, meta: &'a Meta, end: &'a EndRow) {
        let shard = meta.shard.cast_signed();
        let error = end.error.as_ref().map(json);
        if end.outcome == Outcome::Dead {
            self.dead.push(DeadRow {
                shard,
                // One dead letter an invocation: its id is the invocation's.
                id: dead_letter_of(meta).to_uuid(),
                tenant: meta.tenant.as_str(),
                reason: error.clone().unwrap_or_default(),
                invocation: meta.id.to_uuid(),
                created_at: time(end.ended_at),
            });
        }
        self.ended.push(EndedRow {
            shard,
            id: meta.id.to_uuid(),
            tenant: meta.tenant.as_str(),
            outcome: end.outcome.as_str(),
            reason: end.reason.as_deref(),
            provider: end.provider.as_deref(),
            epoch: int(end.epoch),
            seq: int(end.seq),
            started_at: end.started_at.map(time),
            ended_at: time(end.ended_at),
            input_tokens: big(end.usage.input_tokens),
            output_tokens: big(end.usage.output_tokens),
            cost_usd: end.usage.cost_usd,
            output: end.output.as_ref().map(json),
            error,
            key: meta.key.as_deref(),
        });
    }

    fn push_record(&mut self, meta: &'a Meta, record: &'a Record) {
        let json = json(&record.fact);
        let (body, body_hash) = if json.len() <= BODY_INLINE_MAX {
            (Some(json), None)
        } else {
            (None, Some(self.push_body(meta, &json)))
        };
        let mut row = RecordRow {
            shard: meta.shard.cast_signed(),
            id: meta.id.to_uuid(),
            seq: int(record.seq),
            tenant: meta.tenant.as_str(),
            epoch: int(record.epoch),
            at: time(record.at),
            kind: kind_of(&record.fact),
            step: None,
            attempt: None,
            class: None,
            input_hash: None,
            body,
            body_hash,
            input_tokens: None,
            output_tokens: None,
            cost_usd: None,
            started_at: None,
            ended_at: None,
        };
        row.look_into(&record.fact);
        self.record.push(row);
    }

    /// The hash that it lies under.
    fn push_body(&mut self, meta: &'a Meta, body: &[u8]) -> Vec<u8> {
        let hash = Sha256::digest(body).to_vec();
        for (part, bytes) in (0..).zip(body.chunks(BODY_PART)) {
            self.body.push(BodyRow {
                shard: meta.shard.cast_signed(),
                root: meta.root().to_uuid(),
                hash: hash.clone(),
                part,
                tenant: meta.tenant.as_str(),
                bytes: bytes.to_vec(),
            });
        }
        hash
    }

    fn push_mail(&mut self, decision: &'a Decision) {
        let shard = decision.meta.shard.cast_signed();
        self.mail.extend(decision.mail.iter().map(|letter| MailRow {
            shard,
            id: letter.id,
            tenant: letter.tenant.as_str(),
            recipient_shard: letter.shard.cast_signed(),
            kind: letter.body.kind(),
            sender: letter.sender.to_uuid(),
            recipient: letter.recipient.to_uuid(),
            body: json(&letter.body),
        }));
        self.letters.extend(decision.letter.map(|id| GoneRow { shard, id }));
    }
}

/// The dead letter of an invocation that ended dead.
pub(crate) fn dead_letter_of(meta: &Meta) -> DeadLetterId {
    use mesh_types::Id;
    DeadLetterId::from_u128(meta.id.as_u128())
}

impl RecordRow<'_> {
    /// The columns that queries look at; the fact itself is the body.
    fn look_into(&mut self, fact: &Fact) {
        match fact {
            Fact::Begun(begun) => {
                self.step = Some(int(begun.step));
                self.class = Some(begun.effect.as_str());
                self.input_hash = Some(Sha256::digest(json(&begun.input)).to_vec());
            }
            Fact::Done(done) => self.look_into_done(done),
            _ => {}
        }
    }

    fn look_into_done(&mut self, done: &Done) {
        self.step = Some(int(done.step));
        self.attempt = Some(int(done.attempt));
        self.class = Some(done.effect.as_str());
        self.input_tokens = Some(big(done.usage.input_tokens));
        self.output_tokens = Some(big(done.usage.output_tokens));
        self.cost_usd = Some(done.usage.cost_usd);
        self.started_at = Some(time(done.started_at));
        self.ended_at = Some(time(done.ended_at));
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

fn open_row<'a>(meta: &'a Meta, row: &'a OpenRow) -> OpenedRow<'a> {
    let holder = match &row.state {
        RunState::Queued | RunState::Waiting(_) => None,
        RunState::Running(holder) => Some(holder),
    };
    let waits = row.state.waits();
    let wake_at = waits.map_or(meta.wake_at, |waits| waits.wake_at());
    OpenedRow {
        shard: meta.shard.cast_signed(),
        id: meta.id.to_uuid(),
        tenant: meta.tenant.as_str(),
        state: row.state.state().as_str(),
        epoch: int(row.epoch),
        node: holder.map(|holder| &*holder.node),
        incarnation: holder.map(|holder| big(holder.incarnation)),
        waits_for: waits.map(|waits| String::from_utf8(json(waits)).unwrap_or_default()),
        wake_at: wake_at.map(time),
        session_order: row.session_order,
        priority: meta.priority.into(),
        paused: row.paused,
        cancel_requested: row.cancelling,
        losses: int(row.losses),
        started_at: row.started_at.map(time),
    }
}
