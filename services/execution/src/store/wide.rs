//! The wide half of the fenced statement: sessions, waits, pauses, children, forks, mail. Most batches have none of it
//! and are written by the narrow half alone.

use std::sync::LazyLock;

use mesh_store::IdExt;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use uuid::Uuid;

use super::columns::{InvocationColumns, Time, big, columns, int, json, time};
use super::statement::{END, NARROW};
use crate::core::{Decision, Links, Meta, OpenRow, RunState};

#[derive(Debug, Default)]
pub(crate) struct WideColumns {
    pub(crate) linked: InvocationColumns,
    pub(crate) links: LinkColumns,
    pub(crate) opened: WideOpenColumns,
    pub(crate) changed: WideOpenColumns,
    pub(crate) mail: MailColumns,
    pub(crate) letters: LetterColumns,
}

columns! {
    LinkColumns {
        parent: Option<Uuid>, parent_step: Option<i32>, root: Uuid, fork_of: Option<Uuid>, fork_step: Option<i32>,
        depth: i16,
    }
    WideOpenColumns {
        shard: i16, id: Uuid, tenant: String, state: &'static str, epoch: i32, node: Option<String>,
        incarnation: Option<i64>, waits_for: Option<String>, wake_at: Option<Time>, session_order: i64, priority: i16,
        paused: bool, cancel_requested: bool, losses: i32, started_at: Option<Time>,
    }
    MailColumns {
        shard: i16, id: Uuid, tenant: String, to: i16, kind: &'static str, sender: Uuid, recipient: Uuid, body: Vec<u8>,
    }
    LetterColumns { shard: i16, id: Uuid, }
}

impl LinkColumns {
    pub(super) fn push(&mut self, meta: &Meta, links: &Links) {
        let parent = links.parent.as_ref();
        let fork = links.fork.as_ref();
        self.parent.push(parent.map(|parent| parent.invocation.to_uuid()));
        self.parent_step.push(parent.map(|parent| int(parent.step)));
        self.root.push(meta.root().to_uuid());
        self.fork_of.push(fork.map(|fork| fork.of.to_uuid()));
        self.fork_step.push(fork.map(|fork| int(fork.from_step)));
        self.depth.push(links.depth.cast_signed());
    }
}

impl WideOpenColumns {
    pub(super) fn push(&mut self, shard: i16, meta: &Meta, row: &OpenRow) {
        let holder = match &row.state {
            RunState::Running(holder) => Some(holder),
            RunState::Queued | RunState::Waiting(_) => None,
        };
        let waits = row.state.waits();
        let wake_at = waits.map_or(meta.wake_at, |waits| waits.wake_at());
        self.shard.push(shard);
        self.id.push(meta.id.to_uuid());
        self.tenant.push(meta.tenant.to_string());
        self.state.push(row.state.state().as_str());
        self.epoch.push(int(row.epoch));
        self.node.push(holder.map(|holder| holder.node.to_string()));
        self.incarnation.push(holder.map(|holder| big(holder.incarnation)));
        self.waits_for
            .push(waits.map(|waits| String::from_utf8(json(waits)).unwrap_or_default()));
        self.wake_at.push(wake_at.map(time));
        self.session_order.push(row.session_order);
        self.priority.push(meta.priority.into());
        self.paused.push(row.paused);
        self.cancel_requested.push(row.cancelling);
        self.losses.push(int(row.losses));
        self.started_at.push(row.started_at.map(time));
    }
}

impl WideColumns {
    pub(super) fn push_mail(&mut self, shard: i16, decision: &Decision) {
        for letter in &decision.mail {
            let to = &mut self.mail;
            to.shard.push(shard);
            to.id.push(letter.id);
            to.tenant.push(letter.tenant.to_string());
            to.to.push(letter.shard.cast_signed());
            to.kind.push(letter.body.kind());
            to.sender.push(letter.sender.to_uuid());
            to.recipient.push(letter.recipient.to_uuid());
            to.body.push(json(&letter.body));
        }
        if let Some(letter) = decision.letter {
            self.letters.shard.push(shard);
            self.letters.id.push(letter);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.linked.id.is_empty()
            && self.opened.id.is_empty()
            && self.changed.id.is_empty()
            && self.mail.id.is_empty()
            && self.letters.id.is_empty()
    }
}

type Bound<'q> = Query<'q, Postgres, PgArguments>;

/// In the order of the parameters of [`WIDE`], after those of the narrow half.
pub(super) fn bind<'q>(query: Bound<'q>, columns: &'q WideColumns) -> Bound<'q> {
    let rows = &columns.linked;
    let links = &columns.links;
    let query = super::write::bind_invocation(query, rows)
        .bind(&links.parent)
        .bind(&links.parent_step)
        .bind(&links.root)
        .bind(&links.fork_of)
        .bind(&links.fork_step)
        .bind(&links.depth);
    let query = bind_open(query, &columns.opened);
    let query = bind_open(query, &columns.changed);
    let (mail, letters) = (&columns.mail, &columns.letters);
    query
        .bind(&mail.shard)
        .bind(&mail.id)
        .bind(&mail.tenant)
        .bind(&mail.to)
        .bind(&mail.kind)
        .bind(&mail.sender)
        .bind(&mail.recipient)
        .bind(&mail.body)
        .bind(&letters.shard)
        .bind(&letters.id)
}

fn bind_open<'q>(query: Bound<'q>, rows: &'q WideOpenColumns) -> Bound<'q> {
    query
        .bind(&rows.shard)
        .bind(&rows.id)
        .bind(&rows.tenant)
        .bind(&rows.state)
        .bind(&rows.epoch)
        .bind(&rows.node)
        .bind(&rows.incarnation)
        .bind(&rows.waits_for)
        .bind(&rows.wake_at)
        .bind(&rows.session_order)
        .bind(&rows.priority)
        .bind(&rows.paused)
        .bind(&rows.cancel_requested)
        .bind(&rows.losses)
        .bind(&rows.started_at)
}

/// Both halves in one statement.
pub(super) static WIDE: LazyLock<String> = LazyLock::new(|| {
    let narrow = NARROW.trim_end_matches(END);
    format!("{narrow}, {PARTS}{END}")
});

const PARTS: &str = r"linked AS (
    INSERT INTO execution.invocation (id, tenant, shard, agent, version, artifact, entrypoint, session, key, priority,
        parent, parent_step, root, fork_of, fork_step, depth, created_at, deadline_at, request_hash, reply_to, actor,
        input)
    SELECT r.id, r.tenant, r.shard, r.agent, r.version, r.artifact, r.entrypoint, r.session, r.key, r.priority,
        r.parent, r.parent_step, r.root, r.fork_of, r.fork_step, r.depth, r.created_at, r.deadline_at, r.request_hash,
        r.reply_to, r.actor, r.input
    FROM unnest($96::int2[], $97::uuid[], $98::text[], $99::text[], $100::int4[], $101::text[], $102::text[],
        $103::text[], $104::text[], $105::int2[], $106::timestamptz[], $107::timestamptz[], $108::bytea[],
        $109::text[], $110::text[], $111::bytea[], $112::uuid[], $113::int4[], $114::uuid[], $115::uuid[],
        $116::int4[], $117::int2[])
        AS r(shard, id, tenant, agent, version, artifact, entrypoint, session, key, priority, created_at, deadline_at,
            request_hash, reply_to, actor, input, parent, parent_step, root, fork_of, fork_step, depth)
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence))
), wide_opened AS (
    INSERT INTO execution.open (invocation, tenant, shard, state, epoch, node, incarnation, waits_for, wake_at,
        session_order, priority, paused, cancel_requested, losses, started_at)
    SELECT r.id, r.tenant, r.shard, r.state, r.epoch, r.node, r.incarnation, r.waits_for, r.wake_at, r.session_order,
        r.priority, r.paused, r.cancel_requested, r.losses, r.started_at
    FROM unnest($118::int2[], $119::uuid[], $120::text[], $121::text[], $122::int4[], $123::text[], $124::int8[],
        $125::text[], $126::timestamptz[], $127::int8[], $128::int2[], $129::bool[], $130::bool[], $131::int4[],
        $132::timestamptz[])
        AS r(shard, id, tenant, state, epoch, node, incarnation, waits_for, wake_at, session_order, priority, paused,
            cancel_requested, losses, started_at)
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence))
), wide_changed AS (
    UPDATE execution.open o
    SET state = r.state, epoch = r.epoch, node = r.node, incarnation = r.incarnation, waits_for = r.waits_for,
        wake_at = r.wake_at, session_order = r.session_order, paused = r.paused,
        cancel_requested = r.cancel_requested, losses = r.losses, started_at = r.started_at
    FROM unnest($133::int2[], $134::uuid[], $135::text[], $136::text[], $137::int4[], $138::text[], $139::int8[],
        $140::text[], $141::timestamptz[], $142::int8[], $143::int2[], $144::bool[], $145::bool[], $146::int4[],
        $147::timestamptz[])
        AS r(shard, id, tenant, state, epoch, node, incarnation, waits_for, wake_at, session_order, priority, paused,
            cancel_requested, losses, started_at)
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence)) AND o.invocation = r.id
), mail AS (
    INSERT INTO execution.mail (id, tenant, shard, kind, sender, recipient, body)
    SELECT r.id, r.tenant, r.recipient_shard, r.kind, r.sender, r.recipient, r.body
    FROM unnest($148::int2[], $149::uuid[], $150::text[], $151::int2[], $152::text[], $153::uuid[], $154::uuid[],
        $155::bytea[])
        AS r(shard, id, tenant, recipient_shard, kind, sender, recipient, body)
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence))
    ON CONFLICT DO NOTHING
), letter AS (
    DELETE FROM execution.mail m
    USING unnest($156::int2[], $157::uuid[]) AS r(shard, id)
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence)) AND m.id = r.id
)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_used() {
        for n in 1..=157 {
            assert!(WIDE.contains(&format!("${n}::")), "${n}");
        }
        assert!(!WIDE.contains("$158"));
        assert_eq!(WIDE.matches(END).count(), 1);
        let parts = WIDE.matches(" AS (\n").count();
        // All but `given`, `fence` and `feed`.
        let held = WIDE.matches("r.shard = ANY (ARRAY(SELECT id FROM fence))").count();
        assert_eq!(held, parts - 3, "a part without the fence");
    }
}
