//! Reads of invocations, from the journal's own tables: one by id is never stale.

use mesh_api::execution::Invocation;
use mesh_api::journal::{Outcome, Usage};
use mesh_store::IdExt;
use mesh_types::{InvocationId, Problem, Timestamp};
use sqlx::{AssertSqlSafe, FromRow, PgExecutor};
use uuid::Uuid;

use crate::core::open::{view_ended, view_open};
use crate::core::{EndRow, Fork, Holder, Links, Meta, OpenRow, Parent, RunState, StoredInput, Waits};

type Time = chrono::DateTime<chrono::Utc>;

/// An invocation with whatever it is now; `seq` is its highest committed record.
pub(crate) const SELECT_INVOCATION: &str = "
SELECT i.id, i.tenant, i.shard, i.agent, i.version, i.artifact, i.entrypoint, i.session, i.key, i.priority,
    i.created_at, i.deadline_at, i.request_hash, i.reply_to, i.actor, i.input,
    i.parent, i.parent_step, i.root, i.fork_of, i.fork_step, i.depth,
    o.state, o.epoch AS open_epoch, o.node, o.incarnation, o.waits_for, o.wake_at, o.session_order, o.paused,
    o.cancel_requested, o.losses, o.started_at AS open_started_at,
    e.epoch AS ended_epoch, e.outcome, e.reason, e.provider, e.started_at AS ended_started_at, e.ended_at,
    e.input_tokens, e.output_tokens, e.cost_usd, e.output, e.error,
    last.seq, last.kind AS last_kind
FROM execution.invocation i
LEFT JOIN execution.open o ON o.invocation = i.id
LEFT JOIN execution.ended e ON e.invocation = i.id
LEFT JOIN LATERAL (SELECT r.seq, r.kind FROM execution.record r WHERE r.invocation = i.id ORDER BY r.seq DESC LIMIT 1)
    AS last ON true";

#[derive(Debug, FromRow)]
pub(crate) struct InvocationRow {
    id: Uuid,
    tenant: String,
    shard: i16,
    agent: String,
    version: i32,
    artifact: String,
    entrypoint: String,
    session: Option<String>,
    key: Option<String>,
    priority: i16,
    created_at: Time,
    deadline_at: Option<Time>,
    request_hash: Vec<u8>,
    reply_to: Option<String>,
    actor: String,
    input: Vec<u8>,
    parent: Option<Uuid>,
    parent_step: Option<i32>,
    root: Uuid,
    fork_of: Option<Uuid>,
    fork_step: Option<i32>,
    depth: i16,
    state: Option<String>,
    open_epoch: Option<i32>,
    node: Option<String>,
    incarnation: Option<i64>,
    waits_for: Option<String>,
    wake_at: Option<Time>,
    session_order: Option<i64>,
    paused: Option<bool>,
    cancel_requested: Option<bool>,
    losses: Option<i32>,
    open_started_at: Option<Time>,
    ended_epoch: Option<i32>,
    outcome: Option<String>,
    reason: Option<String>,
    provider: Option<String>,
    ended_started_at: Option<Time>,
    ended_at: Option<Time>,
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
    cost_usd: Option<f64>,
    output: Option<Vec<u8>>,
    error: Option<Vec<u8>>,
    seq: Option<i32>,
    last_kind: Option<String>,
}

/// What an invocation is now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Phase {
    Open(OpenRow),
    Ended(Box<EndRow>),
}

/// The named ones that exist (under row level security: of the tenant).
pub(crate) async fn invocations(
    db: impl PgExecutor<'_>,
    ids: &[InvocationId],
) -> Result<Vec<(Meta, Phase)>, sqlx::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.to_uuid()).collect();
    let rows: Vec<InvocationRow> = sqlx::query_as(AssertSqlSafe(format!("{SELECT_INVOCATION} WHERE i.id = ANY($1)")))
        .bind(ids)
        .fetch_all(db)
        .await?;
    rows.into_iter().map(InvocationRow::parse).collect()
}

pub(crate) fn view(meta: &Meta, phase: &Phase) -> Invocation {
    match phase {
        Phase::Open(row) => view_open(meta, row),
        Phase::Ended(row) => view_ended(meta, row),
    }
}

impl InvocationRow {
    pub(crate) fn parse(self) -> Result<(Meta, Phase), sqlx::Error> {
        let phase = self.phase()?;
        let id = self.id;
        let bad = |what: &str| unreadable(id, what);
        let input: StoredInput = serde_json::from_slice(&self.input).map_err(|_| bad("input"))?;
        let links = self.links(&input);
        let meta = Meta {
            id: InvocationId::from_uuid(self.id),
            tenant: self.tenant.parse().map_err(|_| bad("tenant"))?,
            shard: self.shard.cast_unsigned(),
            agent: self.agent.parse().map_err(|_| bad("agent"))?,
            version: self.version.cast_unsigned(),
            artifact: self.artifact,
            concurrency: 0,
            entrypoint: self.entrypoint,
            session: self.session,
            key: self.key,
            priority: u8::try_from(self.priority).map_err(|_| bad("priority"))?,
            created_at: self.created_at.into(),
            deadline_at: self.deadline_at.map(Timestamp::from),
            // Of a wait, the row's time is in what it waits for.
            wake_at: self.wake_at.filter(|_| self.waits_for.is_none()).map(Timestamp::from),
            request_hash: self
                .request_hash
                .as_slice()
                .try_into()
                .map_err(|_| bad("request_hash"))?,
            reply_to: self.reply_to,
            actor: self.actor,
            links,
            input,
        };
        Ok((meta, phase))
    }

    /// Kind of its newest record.
    pub(crate) fn last_kind(&self) -> Option<&str> {
        self.last_kind.as_deref()
    }

    fn links(&self, input: &StoredInput) -> Option<Box<Links>> {
        let parent = self.parent.map(|parent| Parent {
            invocation: InvocationId::from_uuid(parent),
            step: self.parent_step.unwrap_or_default().cast_unsigned(),
            shard: input.parent_shard.unwrap_or_default(),
        });
        let fork = self.fork_of.map(|of| Fork {
            of: InvocationId::from_uuid(of),
            from_step: self.fork_step.unwrap_or_default().cast_unsigned(),
            edit: input.edit.clone().unwrap_or_default(),
        });
        (parent.is_some() || fork.is_some()).then(|| {
            Box::new(Links {
                parent,
                fork,
                root: (self.root != self.id).then(|| InvocationId::from_uuid(self.root)),
                depth: self.depth.cast_unsigned(),
            })
        })
    }

    fn phase(&self) -> Result<Phase, sqlx::Error> {
        let bad = |what: &str| unreadable(self.id, what);
        let seq = self.seq.ok_or_else(|| bad("seq"))?.cast_unsigned();
        let (Some(outcome), Some(epoch), Some(ended_at)) = (&self.outcome, self.ended_epoch, self.ended_at) else {
            let state = match (self.state.as_deref(), &self.node, self.incarnation, &self.waits_for) {
                (Some("running"), Some(node), Some(incarnation), _) => RunState::Running(Holder {
                    node: node.as_str().into(),
                    incarnation: incarnation.cast_unsigned(),
                }),
                (Some("waiting"), _, _, Some(waits)) => {
                    let waits: Waits = serde_json::from_str(waits).map_err(|_| bad("waits_for"))?;
                    RunState::Waiting(waits.into())
                }
                _ => RunState::Queued,
            };
            let epoch = self
                .open_epoch
                .ok_or_else(|| bad("neither open nor ended"))?
                .cast_unsigned();
            let started_at = self.open_started_at.map(Timestamp::from);
            return Ok(Phase::Open(OpenRow {
                state,
                epoch,
                seq,
                started_at,
                paused: self.paused.unwrap_or_default(),
                cancelling: self.cancel_requested.unwrap_or_default(),
                losses: self.losses.unwrap_or_default().cast_unsigned(),
                session_order: self.session_order.unwrap_or_default(),
                usage: Usage::default(),
            }));
        };
        let outcome: Outcome = serde_json::from_value(outcome.clone().into()).map_err(|_| bad("outcome"))?;
        let error: Option<Problem> = match &self.error {
            Some(bytes) => Some(serde_json::from_slice(bytes).map_err(|_| bad("error"))?),
            None => None,
        };
        let output = match &self.output {
            Some(bytes) => Some(serde_json::from_slice(bytes).map_err(|_| bad("output"))?),
            None => None,
        };
        Ok(Phase::Ended(Box::new(EndRow {
            outcome,
            reason: self.reason.clone(),
            provider: self.provider.clone(),
            epoch: epoch.cast_unsigned(),
            seq,
            started_at: self.ended_started_at.map(Timestamp::from),
            ended_at: ended_at.into(),
            usage: Usage {
                input_tokens: self.input_tokens.unwrap_or_default().cast_unsigned(),
                output_tokens: self.output_tokens.unwrap_or_default().cast_unsigned(),
                cost_usd: self.cost_usd.unwrap_or_default(),
            },
            output,
            error,
        })))
    }
}

fn unreadable(id: Uuid, what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("invocation {} cannot be read: {what}", InvocationId::from_uuid(id)).into())
}
