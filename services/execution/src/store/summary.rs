//! The read model of lists: written by the relay, many rows in one statement; may lag, never goes back.

use chrono::{DateTime, Utc};
use mesh_api::execution::{Counts, ForkedFrom, Invocation, InvocationFilter, State};
use mesh_api::journal::Usage;
use mesh_store::IdExt;
use mesh_types::{Code, InvocationId, Problem, Timestamp};
use serde_json::Value;
use sqlx::{FromRow, PgExecutor, Postgres, QueryBuilder};
use uuid::Uuid;

use super::rows::WrittenSummary;
use crate::core::Meta;
use crate::core::summary::Summary;

/// One row to write: where it was committed makes an older write harmless.
pub(crate) struct SummaryWrite<'a> {
    pub(crate) meta: &'a Meta,
    pub(crate) summary: &'a Summary,
    pub(crate) batch: i64,
    pub(crate) ordinal: i32,
}

const UPSERT: &str = "
INSERT INTO execution.summary (invocation, tenant, agent, version, entrypoint, session, priority, root, state, attempt,
    created_at, started_at, ended_at, input_tokens, output_tokens, cost_usd, provider, short_text, error, shard, batch,
    ordinal, parent, fork_of, fork_step, waits_for, paused, seq)
SELECT r.id, r.tenant, r.agent, r.version, r.entrypoint, r.session, r.priority, r.root, r.state, r.attempt,
    r.created_at, r.started_at, r.ended_at, r.input_tokens, r.output_tokens, r.cost_usd, r.provider, r.short_text,
    r.error, r.shard, r.batch, r.ordinal, r.parent, r.fork_of, r.fork_step, r.waits_for, r.paused, r.seq
FROM unnest($1::execution.summary_row[]) AS r
ON CONFLICT (invocation) DO UPDATE SET state = excluded.state, attempt = excluded.attempt,
    started_at = excluded.started_at, ended_at = excluded.ended_at, input_tokens = excluded.input_tokens,
    output_tokens = excluded.output_tokens, cost_usd = excluded.cost_usd, provider = excluded.provider,
    short_text = excluded.short_text, error = excluded.error, waits_for = excluded.waits_for,
    paused = excluded.paused, seq = excluded.seq, batch = excluded.batch, ordinal = excluded.ordinal
WHERE (summary.batch, summary.ordinal) < (excluded.batch, excluded.ordinal)";

/// At most one row an invocation in `rows`.
pub(crate) async fn upsert(db: impl PgExecutor<'_>, rows: &[SummaryWrite<'_>]) -> Result<(), sqlx::Error> {
    let rows: Vec<_> = rows.iter().map(SummaryWrite::row).collect();
    sqlx::query(UPSERT).bind(rows).execute(db).await.map(drop)
}

impl SummaryWrite<'_> {
    fn row(&self) -> WrittenSummary<'_> {
        let (meta, summary) = (self.meta, self.summary);
        let (parent, fork) = (meta.parent(), meta.fork());
        let big = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        WrittenSummary {
            id: meta.id.to_uuid(),
            tenant: meta.tenant.as_str(),
            agent: meta.agent.as_str(),
            version: meta.version.cast_signed(),
            entrypoint: &meta.entrypoint,
            session: meta.session.as_deref(),
            priority: meta.priority.into(),
            state: summary.state.as_str(),
            attempt: summary.attempt.cast_signed(),
            created_at: meta.created_at.to_chrono(),
            started_at: summary.started_at.map(Timestamp::to_chrono),
            ended_at: summary.ended_at.map(Timestamp::to_chrono),
            input_tokens: big(summary.usage.input_tokens),
            output_tokens: big(summary.usage.output_tokens),
            cost_usd: summary.usage.cost_usd,
            provider: summary.provider.as_deref(),
            short_text: summary.shown_text(meta),
            error: summary.error.as_deref(),
            shard: meta.shard.cast_signed(),
            batch: self.batch,
            ordinal: self.ordinal,
            root: meta.root().to_uuid(),
            parent: parent.map(|parent| parent.invocation.to_uuid()),
            fork_of: fork.map(|fork| fork.of.to_uuid()),
            fork_step: fork.map(|fork| fork.from_step.cast_signed()),
            waits_for: summary.waits_for.as_deref(),
            paused: summary.paused,
            seq: summary.seq.cast_signed(),
        }
    }
}

#[derive(Debug, FromRow)]
struct SummaryRow {
    invocation: Uuid,
    tenant: String,
    agent: String,
    version: i32,
    entrypoint: String,
    session: Option<String>,
    priority: i16,
    parent: Option<Uuid>,
    state: String,
    attempt: i32,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    input_tokens: i64,
    output_tokens: i64,
    cost_usd: f64,
    provider: Option<String>,
    short_text: String,
    error: Option<String>,
    root: Uuid,
    fork_of: Option<Uuid>,
    fork_step: Option<i32>,
    waits_for: Option<String>,
    paused: bool,
    seq: i32,
}

/// Newest first, after the cursor; one more than `limit`, so that the caller sees whether there is more.
pub(crate) async fn list(
    db: impl PgExecutor<'_>,
    filter: &InvocationFilter,
    after: Option<InvocationId>,
    limit: u32,
) -> Result<Vec<Invocation>, sqlx::Error> {
    let mut query = QueryBuilder::new(
        "SELECT invocation, tenant, agent, version, entrypoint, session, priority, parent, state, attempt, created_at,
         started_at, ended_at, input_tokens, output_tokens, cost_usd, provider, short_text, error, root, fork_of,
         fork_step, waits_for, paused, seq
         FROM execution.summary WHERE true",
    );
    push_filter(&mut query, filter);
    if let Some(after) = after {
        query.push(" AND invocation < ").push_bind(after.to_uuid());
    }
    query
        .push(" ORDER BY invocation DESC LIMIT ")
        .push_bind(i64::from(limit) + 1);
    let rows: Vec<SummaryRow> = query.build_query_as().fetch_all(db).await?;
    rows.into_iter().map(SummaryRow::parse).collect()
}

pub(crate) async fn counts(db: impl PgExecutor<'_>, filter: &InvocationFilter) -> Result<Counts, sqlx::Error> {
    let mut query = QueryBuilder::new("SELECT state, count(*) FROM execution.summary WHERE true");
    push_filter(&mut query, filter);
    query.push(" GROUP BY state");
    let rows: Vec<(String, i64)> = query.build_query_as().fetch_all(db).await?;
    let mut counts = Counts::default();
    for (state, count) in rows {
        let count = count.cast_unsigned();
        counts.all += count;
        match state.parse::<State>() {
            Ok(State::Queued) => counts.queued = count,
            Ok(State::Running) => counts.running = count,
            Ok(State::Waiting) => counts.waiting = count,
            Ok(State::Completed) => counts.completed = count,
            Ok(State::Failed) => counts.failed = count,
            Ok(State::Cancelled) => counts.cancelled = count,
            Ok(State::Dead) => counts.dead = count,
            Err(_) => {}
        }
    }
    Ok(counts)
}

fn push_filter(query: &mut QueryBuilder<Postgres>, filter: &InvocationFilter) {
    // Row level security keeps tenants apart; named here too, so that the index is used.
    query.push(" AND tenant = current_setting('mesh.tenant', true)");
    if let Some(agent) = &filter.agent {
        query.push(" AND agent = ").push_bind(agent.to_string());
    }
    if let Some(state) = filter.state {
        query.push(" AND state = ").push_bind(state.as_str());
    }
    if let Some(session) = &filter.session {
        query.push(" AND session = ").push_bind(session.clone());
    }
    if let Some(parent) = filter.parent {
        query.push(" AND parent = ").push_bind(parent.to_uuid());
    }
    if let Some(root) = filter.root {
        query.push(" AND root = ").push_bind(root.to_uuid());
    }
    if let Some(since) = filter.since {
        query.push(" AND created_at >= ").push_bind(since.to_chrono());
    }
    if let Some(until) = filter.until {
        query.push(" AND created_at < ").push_bind(until.to_chrono());
    }
    if let Some(q) = filter.q.as_deref().filter(|q| !q.is_empty()) {
        let id = q.parse::<InvocationId>().ok().map(IdExt::to_uuid);
        let pattern = format!("%{}%", q.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
        query.push(" AND (short_text ILIKE ").push_bind(pattern.clone());
        query.push(" OR error ILIKE ").push_bind(pattern);
        query.push(" OR invocation = ").push_bind(id).push(")");
    }
}

impl SummaryRow {
    /// As [`Invocation`], with the short text in place of the bodies: lists never read bodies.
    fn parse(self) -> Result<Invocation, sqlx::Error> {
        let bad = || sqlx::Error::Decode("a summary cannot be read".into());
        let state: State = self.state.parse().map_err(|_| bad())?;
        let text = serde_json::json!({"text": self.short_text});
        let has_output = state == State::Completed;
        Ok(Invocation {
            id: InvocationId::from_uuid(self.invocation),
            tenant: self.tenant.parse().map_err(|_| bad())?,
            agent: self.agent.parse().map_err(|_| bad())?,
            version: self.version.cast_unsigned(),
            state,
            session: self.session,
            entrypoint: self.entrypoint,
            priority: u8::try_from(self.priority).map_err(|_| bad())?,
            payload: if has_output { Value::Null } else { text.clone() },
            output: has_output.then_some(text),
            error: self.error.map(|text| {
                let (kind, detail) = text.split_once(": ").unwrap_or(("", text.as_str()));
                Problem {
                    kind: kind.to_owned(),
                    ..Problem::new(Code::InvocationFailed, detail)
                }
            }),
            provider: self.provider,
            usage: Usage {
                input_tokens: self.input_tokens.cast_unsigned(),
                output_tokens: self.output_tokens.cast_unsigned(),
                cost_usd: self.cost_usd,
            },
            parent: self.parent.map(InvocationId::from_uuid),
            forked_from: self.fork_of.zip(self.fork_step).map(|(of, step)| ForkedFrom {
                invocation: InvocationId::from_uuid(of),
                step: step.cast_unsigned(),
            }),
            attempt: self.attempt.cast_unsigned(),
            created_at: self.created_at.into(),
            started_at: self.started_at.map(Timestamp::from),
            ended_at: self.ended_at.map(Timestamp::from),
            cursor: self.seq.cast_unsigned(),
            reason: None,
            waits_for: self
                .waits_for
                .and_then(|waits| serde_json::from_str(&waits).ok())
                .unwrap_or_default(),
            paused: self.paused,
            root: Some(InvocationId::from_uuid(self.root)),
            steps: None,
        })
    }
}
