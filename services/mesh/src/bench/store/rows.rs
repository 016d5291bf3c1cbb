//! The ceiling's rows: read once from an invocation of this very run, then written again and again under other ids.

use chrono::{DateTime, Utc};
use mesh_types::{AgentName, Tenant};
use serde::Deserialize;
use sqlx::{FromRow, PgConnection, PgPool, Row};
use uuid::Uuid;

use super::CEILING_TENANT;

#[derive(Debug, Clone, FromRow)]
pub(in crate::bench) struct InvocationRow {
    pub(in crate::bench) agent: String,
    pub(in crate::bench) version: i32,
    pub(in crate::bench) artifact: String,
    pub(in crate::bench) entrypoint: String,
    pub(in crate::bench) priority: i16,
    pub(in crate::bench) request_hash: Vec<u8>,
    pub(in crate::bench) actor: String,
    pub(in crate::bench) input: Vec<u8>,
    pub(in crate::bench) outcome: String,
    pub(in crate::bench) output: Option<Vec<u8>>,
    pub(in crate::bench) attempt: i32,
    pub(in crate::bench) short_text: String,
}

#[derive(Debug, Clone, FromRow)]
pub(in crate::bench) struct RecordRow {
    pub(in crate::bench) seq: i32,
    pub(in crate::bench) epoch: i32,
    pub(in crate::bench) kind: String,
    pub(in crate::bench) step: Option<i32>,
    pub(in crate::bench) attempt: Option<i32>,
    pub(in crate::bench) class: Option<String>,
    pub(in crate::bench) input_hash: Option<Vec<u8>>,
    pub(in crate::bench) body: Option<Vec<u8>>,
    pub(in crate::bench) input_tokens: Option<i64>,
    pub(in crate::bench) output_tokens: Option<i64>,
    pub(in crate::bench) cost_usd: Option<f64>,
    pub(in crate::bench) is_timed: bool,
}

/// One invocation as its rows, cut into the commits that wrote them.
#[derive(Debug, Clone)]
pub(in crate::bench) struct Template {
    pub(in crate::bench) invocation: InvocationRow,
    pub(in crate::bench) commits: Vec<Vec<RecordRow>>,
    pub(in crate::bench) node: String,
    pub(in crate::bench) incarnation: i64,
}

/// The newest completed invocation of the agent.
pub(in crate::bench) async fn read(
    lanes: &PgPool,
    tenant: &Tenant,
    agent: &AgentName,
) -> Result<Option<Template>, sqlx::Error> {
    let found: Option<Uuid> = sqlx::query_scalar(
        "SELECT invocation FROM execution.summary WHERE tenant = $1 AND agent = $2 AND state = 'completed'
         ORDER BY invocation DESC LIMIT 1",
    )
    .bind(tenant.as_str())
    .bind(agent.as_str())
    .fetch_optional(lanes)
    .await?;
    let Some(id) = found else { return Ok(None) };
    let invocation: InvocationRow = sqlx::query_as(
        "SELECT i.agent, i.version, i.artifact, i.entrypoint, i.priority, i.request_hash, i.actor, i.input, e.outcome,
            e.output, s.attempt, s.short_text
         FROM execution.invocation AS i
         JOIN execution.ended AS e ON e.invocation = i.id
         JOIN execution.summary AS s ON s.invocation = i.id
         WHERE i.id = $1",
    )
    .bind(id)
    .fetch_one(lanes)
    .await?;
    let records: Vec<RecordRow> = sqlx::query_as(
        "SELECT seq, epoch, kind, step, attempt, class, input_hash, body, input_tokens, output_tokens, cost_usd,
            started_at IS NOT NULL AS is_timed
         FROM execution.record WHERE invocation = $1 ORDER BY seq",
    )
    .bind(id)
    .fetch_all(lanes)
    .await?;
    Ok(Some(Template::new(invocation, records)))
}

impl Template {
    pub(in crate::bench) fn new(invocation: InvocationRow, records: Vec<RecordRow>) -> Self {
        #[derive(Default, Deserialize)]
        struct Claimed {
            holder: String,
            incarnation: i64,
        }
        let claimed = records
            .iter()
            .find(|record| record.kind == "claimed")
            .and_then(|record| record.body.as_deref());
        let claimed: Claimed = claimed
            .and_then(|body| serde_json::from_slice(body).ok())
            .unwrap_or_default();
        Self {
            invocation,
            commits: commits(records),
            node: claimed.holder,
            incarnation: claimed.incarnation,
        }
    }

    pub(in crate::bench) fn records(&self) -> usize {
        self.commits.iter().map(Vec::len).sum()
    }
}

/// As the worker and its owner group them: accepted with claimed, each done step alone, the last one with the end.
fn commits(records: Vec<RecordRow>) -> Vec<Vec<RecordRow>> {
    let mut commits: Vec<Vec<RecordRow>> = vec![Vec::new()];
    for record in records {
        if record.kind == "done" {
            commits.push(Vec::new());
        }
        if let Some(commit) = commits.last_mut() {
            commit.push(record);
        }
    }
    commits
}

/// A place of one invocation in one batch.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct Entry {
    pub(in crate::bench) id: Uuid,
    pub(in crate::bench) shard: i16,
    /// Which of the template's commits is next.
    pub(in crate::bench) commit: usize,
}

/// What of a shard must still be true, and what the batch tells of it.
#[derive(Debug, Default)]
pub(in crate::bench) struct Fence {
    pub(in crate::bench) shard: i16,
    pub(in crate::bench) batch: i64,
    pub(in crate::bench) feed: Vec<u8>,
}

/// Writes one batch as a lane does: one statement, one commit. The answer is how many fences stood.
pub(in crate::bench) async fn write(
    connection: &mut PgConnection,
    template: &Template,
    fences: &[Fence],
    entries: &[Entry],
    at: DateTime<Utc>,
) -> Result<usize, sqlx::Error> {
    let last = template.commits.len() - 1;
    let opened: Vec<&Entry> = entries.iter().filter(|entry| entry.commit == 0).collect();
    let ended: Vec<&Entry> = entries.iter().filter(|entry| entry.commit == last).collect();
    let records: Vec<(&Entry, &RecordRow)> = entries
        .iter()
        .flat_map(|entry| template.commits[entry.commit].iter().map(move |record| (entry, record)))
        .collect();
    let query = sqlx::query(STATEMENT)
        .bind(column(fences, |fence| fence.shard))
        .bind(vec![1_i64; fences.len()])
        .bind(column(fences, |fence| fence.batch))
        .bind(column(fences, |fence| fence.batch - 1))
        .bind(column(fences, |fence| fence.feed.as_slice()))
        .bind(at);
    let query = bind_opened(query, template, &opened, at);
    let query = bind_records(query, &records, at);
    let query = bind_ended(query, template, &ended, at);
    let rows = query.fetch_all(connection).await?;
    rows.iter().try_for_each(|row| row.try_get::<i16, _>(0).map(drop))?;
    Ok(rows.len())
}

type Bound<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

fn column<'a, R, T>(rows: &'a [R], of: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}

/// `invocation` and `open`: $7 to $26.
fn bind_opened<'q>(query: Bound<'q>, template: &'q Template, rows: &[&'q Entry], at: DateTime<Utc>) -> Bound<'q> {
    let n = rows.len();
    let row = &template.invocation;
    query
        .bind(column(rows, |entry| entry.shard))
        .bind(column(rows, |entry| entry.id))
        .bind(vec![CEILING_TENANT; n])
        .bind(vec![row.agent.as_str(); n])
        .bind(vec![row.version; n])
        .bind(vec![row.artifact.as_str(); n])
        .bind(vec![row.entrypoint.as_str(); n])
        .bind(vec![None::<&str>; n])
        .bind(vec![None::<&str>; n])
        .bind(vec![row.priority; n])
        .bind(vec![at; n])
        .bind(vec![None::<DateTime<Utc>>; n])
        .bind(vec![row.request_hash.as_slice(); n])
        .bind(vec![None::<&str>; n])
        .bind(vec![row.actor.as_str(); n])
        .bind(vec![row.input.as_slice(); n])
        .bind(vec!["running"; n])
        .bind(vec![1_i32; n])
        .bind(vec![template.node.as_str(); n])
        .bind(vec![template.incarnation; n])
}

/// `record`: $27 to $44.
fn bind_records<'q>(query: Bound<'q>, rows: &[(&'q Entry, &'q RecordRow)], at: DateTime<Utc>) -> Bound<'q> {
    query
        .bind(column(rows, |(entry, _)| entry.shard))
        .bind(column(rows, |(entry, _)| entry.id))
        .bind(column(rows, |(_, row)| row.seq))
        .bind(vec![CEILING_TENANT; rows.len()])
        .bind(column(rows, |(_, row)| row.epoch))
        .bind(vec![at; rows.len()])
        .bind(column(rows, |(_, row)| row.kind.as_str()))
        .bind(column(rows, |(_, row)| row.step))
        .bind(column(rows, |(_, row)| row.attempt))
        .bind(column(rows, |(_, row)| row.class.as_deref()))
        .bind(column(rows, |(_, row)| row.input_hash.as_deref()))
        .bind(column(rows, |(_, row)| row.body.as_deref()))
        .bind(vec![None::<&[u8]>; rows.len()])
        .bind(column(rows, |(_, row)| row.input_tokens))
        .bind(column(rows, |(_, row)| row.output_tokens))
        .bind(column(rows, |(_, row)| row.cost_usd))
        .bind(column(rows, |(_, row)| row.is_timed.then_some(at)))
        .bind(column(rows, |(_, row)| row.is_timed.then_some(at)))
}

/// `ended`, the row that leaves `open`, and `summary`: $45 to $70.
fn bind_ended<'q>(query: Bound<'q>, template: &'q Template, rows: &[&'q Entry], at: DateTime<Utc>) -> Bound<'q> {
    let n = rows.len();
    let row = &template.invocation;
    let seq = i32::try_from(template.records()).unwrap_or(i32::MAX);
    query
        .bind(column(rows, |entry| entry.shard))
        .bind(column(rows, |entry| entry.id))
        .bind(vec![CEILING_TENANT; n])
        .bind(vec![row.outcome.as_str(); n])
        .bind(vec![None::<&str>; n])
        .bind(vec![None::<&str>; n])
        .bind(vec![1_i32; n])
        .bind(vec![seq; n])
        .bind(vec![at; n])
        .bind(vec![at; n])
        .bind(vec![0_i64; n])
        .bind(vec![0_i64; n])
        .bind(vec![0_f64; n])
        .bind(vec![row.output.as_deref(); n])
        .bind(vec![None::<&[u8]>; n])
        .bind(vec![row.agent.as_str(); n])
        .bind(vec![row.version; n])
        .bind(vec![row.attempt; n])
        .bind(vec![row.short_text.as_str(); n])
        .bind(vec![row.entrypoint.as_str(); n])
        .bind(vec![row.priority; n])
        .bind(vec![None::<Uuid>; n])
        .bind(vec![None::<Uuid>; n])
        .bind(vec![None::<i32>; n])
        .bind(vec![None::<&str>; n])
        .bind(vec![false; n])
}

/// `execution::store::statement` without what a `noop` invocation never writes, on a shard table of its own, and with the
/// list's row, which the mesh writes after its commit: a commit less. Its parts take an array a column and join the fence, as
/// the mesh's once did: it stays as it is, so that its figures can be compared with older ones (docs/benchmarks.md says what
/// the changes would give).
const STATEMENT: &str = r"
WITH given AS (
    SELECT * FROM unnest($1::int2[], $2::int8[], $3::int8[], $4::int8[], $5::bytea[])
        AS g(id, epoch, batch, relayed, feed)
), fence AS (
    UPDATE execution.bench_ceiling_shard s
    SET batch = s.batch + 1, relayed_batch = greatest(s.relayed_batch, g.relayed)
    FROM given g
    WHERE s.id = g.id AND s.epoch = g.epoch AND s.batch = g.batch
    RETURNING s.id, s.batch, g.feed
), feed AS (
    INSERT INTO execution.feed (shard, batch, entries, at)
    SELECT id, batch, feed, $6::timestamptz FROM fence
), invocation AS (
    INSERT INTO execution.invocation (id, tenant, shard, agent, version, artifact, entrypoint, session, key, priority,
        root, created_at, deadline_at, request_hash, reply_to, actor, input)
    SELECT r.id, r.tenant, r.shard, r.agent, r.version, r.artifact, r.entrypoint, r.session, r.key, r.priority,
        r.id, r.created_at, r.deadline_at, r.request_hash, r.reply_to, r.actor, r.input
    FROM unnest($7::int2[], $8::uuid[], $9::text[], $10::text[], $11::int4[], $12::text[], $13::text[], $14::text[],
        $15::text[], $16::int2[], $17::timestamptz[], $18::timestamptz[], $19::bytea[], $20::text[], $21::text[],
        $22::bytea[])
        AS r(shard, id, tenant, agent, version, artifact, entrypoint, session, key, priority, created_at, deadline_at,
            request_hash, reply_to, actor, input)
    JOIN fence ON fence.id = r.shard
), opened AS (
    INSERT INTO execution.open (invocation, tenant, shard, state, epoch, node, incarnation, wake_at, priority, started_at)
    SELECT r.id, r.tenant, r.shard, r.state, r.epoch, r.node, r.incarnation, r.wake_at, r.priority, r.started_at
    FROM unnest($7::int2[], $8::uuid[], $9::text[], $23::text[], $24::int4[], $25::text[], $26::int8[],
        $18::timestamptz[], $16::int2[], $17::timestamptz[])
        AS r(shard, id, tenant, state, epoch, node, incarnation, wake_at, priority, started_at)
    JOIN fence ON fence.id = r.shard
), closed AS (
    DELETE FROM execution.open o
    USING unnest($45::int2[], $46::uuid[]) AS r(shard, id)
    JOIN fence ON fence.id = r.shard
    WHERE o.invocation = r.id
), record AS (
    INSERT INTO execution.record (invocation, seq, tenant, epoch, at, kind, step, attempt, class, input_hash, body,
        body_hash, input_tokens, output_tokens, cost_usd, started_at, ended_at)
    SELECT r.id, r.seq, r.tenant, r.epoch, r.at, r.kind, r.step, r.attempt, r.class, r.input_hash, r.body,
        r.body_hash, r.input_tokens, r.output_tokens, r.cost_usd, r.started_at, r.ended_at
    FROM unnest($27::int2[], $28::uuid[], $29::int4[], $30::text[], $31::int4[], $32::timestamptz[], $33::text[],
        $34::int4[], $35::int4[], $36::text[], $37::bytea[], $38::bytea[], $39::bytea[], $40::int8[], $41::int8[],
        $42::float8[], $43::timestamptz[], $44::timestamptz[])
        AS r(shard, id, seq, tenant, epoch, at, kind, step, attempt, class, input_hash, body, body_hash, input_tokens,
            output_tokens, cost_usd, started_at, ended_at)
    JOIN fence ON fence.id = r.shard
), ended AS (
    INSERT INTO execution.ended (invocation, tenant, outcome, reason, provider, epoch, seq, started_at, ended_at,
        input_tokens, output_tokens, cost_usd, output, error)
    SELECT r.id, r.tenant, r.outcome, r.reason, r.provider, r.epoch, r.seq, r.started_at, r.ended_at,
        r.input_tokens, r.output_tokens, r.cost_usd, r.output, r.error
    FROM unnest($45::int2[], $46::uuid[], $47::text[], $48::text[], $49::text[], $50::text[], $51::int4[], $52::int4[],
        $53::timestamptz[], $54::timestamptz[], $55::int8[], $56::int8[], $57::float8[], $58::bytea[], $59::bytea[])
        AS r(shard, id, tenant, outcome, reason, provider, epoch, seq, started_at, ended_at, input_tokens,
            output_tokens, cost_usd, output, error)
    JOIN fence ON fence.id = r.shard
), summary AS (
    INSERT INTO execution.summary (invocation, tenant, agent, version, entrypoint, priority, root, state, attempt,
        created_at, started_at, ended_at, input_tokens, output_tokens, cost_usd, short_text, shard, batch, ordinal,
        parent, fork_of, fork_step, waits_for, paused)
    SELECT r.id, r.tenant, r.agent, r.version, r.entrypoint, r.priority, r.id, r.state, r.attempt,
        r.started_at, r.started_at, r.ended_at, r.input_tokens, r.output_tokens, r.cost_usd, r.short_text, r.shard,
        fence.batch, r.ordinal, r.parent, r.fork_of, r.fork_step, r.waits_for, r.paused
    FROM unnest($45::int2[], $46::uuid[], $47::text[], $60::text[], $61::int4[], $64::text[], $65::int2[], $48::text[],
        $62::int4[], $53::timestamptz[], $54::timestamptz[], $55::int8[], $56::int8[], $57::float8[], $63::text[],
        $66::uuid[], $67::uuid[], $68::int4[], $69::text[], $70::bool[])
        WITH ORDINALITY
        AS r(shard, id, tenant, agent, version, entrypoint, priority, state, attempt, started_at, ended_at,
            input_tokens, output_tokens, cost_usd, short_text, parent, fork_of, fork_step, waits_for, paused, ordinal)
    JOIN fence ON fence.id = r.shard
)
SELECT id FROM fence";
