//! The one fenced statement (EXECUTION.md §3): a whole batch, or nothing of a shard that is no longer ours.

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{Postgres, Row};

use super::columns::{Columns, InvocationColumns};
use super::wide::{self, WIDE};

/// What must still be true of a shard for its rows to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(crate) shard: i16,
    pub(crate) epoch: i64,
    /// The last committed batch; this one becomes `batch + 1`.
    pub(crate) batch: i64,
    /// Highest batch that the relay is done with; rides along.
    pub(crate) relayed: i64,
    /// Packed list of (invocation, seq): see `store::feed`.
    pub(crate) feed: Vec<u8>,
}

/// Writes the batch; the answer holds the shards whose fence stood. One round trip, one fsync.
pub(crate) async fn write(
    connection: &mut PgConnection,
    fences: &[Fence],
    columns: &Columns,
    at: chrono::DateTime<chrono::Utc>,
) -> Result<Vec<i16>, sqlx::Error> {
    let is_wide = !columns.wide.is_empty();
    let statement: &'static str = if is_wide { &WIDE } else { STATEMENT };
    #[cfg(feature = "planted-bugs")]
    let statement = planted(statement);
    let query = sqlx::query(statement)
        .bind(fences.iter().map(|fence| fence.shard).collect::<Vec<_>>())
        .bind(fences.iter().map(|fence| fence.epoch).collect::<Vec<_>>())
        .bind(fences.iter().map(|fence| fence.batch).collect::<Vec<_>>())
        .bind(fences.iter().map(|fence| fence.relayed).collect::<Vec<_>>())
        .bind(fences.iter().map(|fence| fence.feed.as_slice()).collect::<Vec<_>>())
        .bind(at);
    let query = bind(query, columns);
    let query = if is_wide {
        wide::bind(query, &columns.wide)
    } else {
        query
    };
    let rows = query.fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// The statement with the bug that this process shows.
#[cfg(feature = "planted-bugs")]
fn planted(statement: &'static str) -> &'static str {
    use mesh_runtime::planted::is_planted;
    let changed = if is_planted("unlocked_fence") {
        statement.replace(" AND s.epoch = g.epoch AND s.batch = g.batch", "")
    } else if is_planted("end_keeps_open") {
        statement.replace(
            "WHERE o.invocation = r.id\n), record AS",
            "WHERE o.invocation = r.id AND false\n), record AS",
        )
    } else if is_planted("no_dedupe_by_key") {
        statement.replace(
            "ORDER BY r.tenant, r.key\n",
            "ORDER BY r.tenant, r.key\n    ON CONFLICT DO NOTHING\n",
        )
    } else {
        return statement;
    };
    // A planted process is short-lived.
    changed.leak()
}

type Bound<'q> = Query<'q, Postgres, PgArguments>;

fn bind<'q>(query: Bound<'q>, columns: &'q Columns) -> Bound<'q> {
    let query = bind_invocations(query, columns);
    let query = bind_open(query, columns);
    let query = bind_records(query, columns);
    bind_ends(query, columns)
}

fn bind_invocations<'q>(query: Bound<'q>, columns: &'q Columns) -> Bound<'q> {
    let key = &columns.key;
    bind_invocation(query, &columns.invocation)
        .bind(&key.shard)
        .bind(&key.tenant)
        .bind(&key.key)
        .bind(&key.request_hash)
        .bind(&key.id)
}

pub(super) fn bind_invocation<'q>(query: Bound<'q>, rows: &'q InvocationColumns) -> Bound<'q> {
    query
        .bind(&rows.shard)
        .bind(&rows.id)
        .bind(&rows.tenant)
        .bind(&rows.agent)
        .bind(&rows.version)
        .bind(&rows.artifact)
        .bind(&rows.entrypoint)
        .bind(&rows.session)
        .bind(&rows.key)
        .bind(&rows.priority)
        .bind(&rows.created_at)
        .bind(&rows.deadline_at)
        .bind(&rows.request_hash)
        .bind(&rows.reply_to)
        .bind(&rows.actor)
        .bind(&rows.input)
}

fn bind_open<'q>(mut query: Bound<'q>, columns: &'q Columns) -> Bound<'q> {
    for rows in [&columns.opened, &columns.changed] {
        query = query
            .bind(&rows.shard)
            .bind(&rows.id)
            .bind(&rows.tenant)
            .bind(&rows.state)
            .bind(&rows.epoch)
            .bind(&rows.node)
            .bind(&rows.incarnation)
            .bind(&rows.wake_at)
            .bind(&rows.priority)
            .bind(&rows.started_at);
    }
    query.bind(&columns.closed.shard).bind(&columns.closed.id)
}

fn bind_records<'q>(query: Bound<'q>, columns: &'q Columns) -> Bound<'q> {
    let rows = &columns.record;
    let body = &columns.body;
    query
        .bind(&rows.shard)
        .bind(&rows.id)
        .bind(&rows.seq)
        .bind(&rows.tenant)
        .bind(&rows.epoch)
        .bind(&rows.at)
        .bind(&rows.kind)
        .bind(&rows.step)
        .bind(&rows.attempt)
        .bind(&rows.class)
        .bind(&rows.input_hash)
        .bind(&rows.body)
        .bind(&rows.body_hash)
        .bind(&rows.input_tokens)
        .bind(&rows.output_tokens)
        .bind(&rows.cost_usd)
        .bind(&rows.started_at)
        .bind(&rows.ended_at)
        .bind(&body.shard)
        .bind(&body.root)
        .bind(&body.hash)
        .bind(&body.part)
        .bind(&body.tenant)
        .bind(&body.bytes)
}

fn bind_ends<'q>(query: Bound<'q>, columns: &'q Columns) -> Bound<'q> {
    let rows = &columns.ended;
    let dead = &columns.dead;
    query
        .bind(&rows.shard)
        .bind(&rows.id)
        .bind(&rows.tenant)
        .bind(&rows.outcome)
        .bind(&rows.reason)
        .bind(&rows.provider)
        .bind(&rows.epoch)
        .bind(&rows.seq)
        .bind(&rows.started_at)
        .bind(&rows.ended_at)
        .bind(&rows.input_tokens)
        .bind(&rows.output_tokens)
        .bind(&rows.cost_usd)
        .bind(&rows.output)
        .bind(&rows.error)
        .bind(&rows.key)
        .bind(&dead.shard)
        .bind(&dead.id)
        .bind(&dead.tenant)
        .bind(&dead.reason)
        .bind(&dead.invocation)
        .bind(&dead.created_at)
}

/// Every write joins `fence`: a shard whose epoch or batch moved on returns no row there and so writes nothing.
/// Parameters stand in the order of the `bind_…` functions.
pub(crate) const STATEMENT: &str = r"
WITH given AS (
    SELECT * FROM unnest($1::int2[], $2::int8[], $3::int8[], $4::int8[], $5::bytea[])
        AS g(id, epoch, batch, relayed, feed)
), fence AS (
    UPDATE execution.shard s
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
), key AS (
    INSERT INTO execution.key (tenant, key, request_hash, invocation)
    SELECT r.tenant, r.key, r.request_hash, r.id
    FROM unnest($23::int2[], $24::text[], $25::text[], $26::bytea[], $27::uuid[]) AS r(shard, tenant, key, request_hash, id)
    JOIN fence ON fence.id = r.shard
    ORDER BY r.tenant, r.key
), opened AS (
    INSERT INTO execution.open (invocation, tenant, shard, state, epoch, node, incarnation, wake_at, priority, started_at)
    SELECT r.id, r.tenant, r.shard, r.state, r.epoch, r.node, r.incarnation, r.wake_at, r.priority, r.started_at
    FROM unnest($28::int2[], $29::uuid[], $30::text[], $31::text[], $32::int4[], $33::text[], $34::int8[],
        $35::timestamptz[], $36::int2[], $37::timestamptz[])
        AS r(shard, id, tenant, state, epoch, node, incarnation, wake_at, priority, started_at)
    JOIN fence ON fence.id = r.shard
), changed AS (
    UPDATE execution.open o
    SET state = r.state, epoch = r.epoch, node = r.node, incarnation = r.incarnation, wake_at = r.wake_at,
        started_at = r.started_at
    FROM unnest($38::int2[], $39::uuid[], $40::text[], $41::text[], $42::int4[], $43::text[], $44::int8[],
        $45::timestamptz[], $46::int2[], $47::timestamptz[])
        AS r(shard, id, tenant, state, epoch, node, incarnation, wake_at, priority, started_at)
    JOIN fence ON fence.id = r.shard
    WHERE o.invocation = r.id
), closed AS (
    DELETE FROM execution.open o
    USING unnest($48::int2[], $49::uuid[]) AS r(shard, id)
    JOIN fence ON fence.id = r.shard
    WHERE o.invocation = r.id
), record AS (
    INSERT INTO execution.record (invocation, seq, tenant, epoch, at, kind, step, attempt, class, input_hash, body,
        body_hash, input_tokens, output_tokens, cost_usd, started_at, ended_at)
    SELECT r.id, r.seq, r.tenant, r.epoch, r.at, r.kind, r.step, r.attempt, r.class, r.input_hash, r.body,
        r.body_hash, r.input_tokens, r.output_tokens, r.cost_usd, r.started_at, r.ended_at
    FROM unnest($50::int2[], $51::uuid[], $52::int4[], $53::text[], $54::int4[], $55::timestamptz[], $56::text[],
        $57::int4[], $58::int4[], $59::text[], $60::bytea[], $61::bytea[], $62::bytea[], $63::int8[], $64::int8[],
        $65::float8[], $66::timestamptz[], $67::timestamptz[])
        AS r(shard, id, seq, tenant, epoch, at, kind, step, attempt, class, input_hash, body, body_hash, input_tokens,
            output_tokens, cost_usd, started_at, ended_at)
    JOIN fence ON fence.id = r.shard
), body AS (
    INSERT INTO execution.body (root, hash, part, tenant, bytes)
    SELECT DISTINCT ON (r.root, r.hash, r.part) r.root, r.hash, r.part, r.tenant, r.bytes
    FROM unnest($68::int2[], $69::uuid[], $70::bytea[], $71::int4[], $72::text[], $73::bytea[])
        AS r(shard, root, hash, part, tenant, bytes)
    JOIN fence ON fence.id = r.shard
    ON CONFLICT DO NOTHING
), ended AS (
    INSERT INTO execution.ended (invocation, tenant, outcome, reason, provider, epoch, seq, started_at, ended_at,
        input_tokens, output_tokens, cost_usd, output, error)
    SELECT r.id, r.tenant, r.outcome, r.reason, r.provider, r.epoch, r.seq, r.started_at, r.ended_at,
        r.input_tokens, r.output_tokens, r.cost_usd, r.output, r.error
    FROM unnest($74::int2[], $75::uuid[], $76::text[], $77::text[], $78::text[], $79::text[], $80::int4[], $81::int4[],
        $82::timestamptz[], $83::timestamptz[], $84::int8[], $85::int8[], $86::float8[], $87::bytea[], $88::bytea[],
        $89::text[])
        AS r(shard, id, tenant, outcome, reason, provider, epoch, seq, started_at, ended_at, input_tokens,
            output_tokens, cost_usd, output, error, key)
    JOIN fence ON fence.id = r.shard
), key_ended AS (
    UPDATE execution.key k SET ended_at = r.ended_at
    FROM unnest($74::int2[], $76::text[], $89::text[], $83::timestamptz[]) AS r(shard, tenant, key, ended_at)
    JOIN fence ON fence.id = r.shard
    WHERE r.key IS NOT NULL AND k.tenant = r.tenant AND k.key = r.key
), dead AS (
    INSERT INTO execution.dead_letter (id, tenant, origin, reason, invocation, created_at)
    SELECT r.id, r.tenant, 'invocation', r.reason, r.invocation, r.created_at
    FROM unnest($90::int2[], $91::uuid[], $92::text[], $93::bytea[], $94::uuid[], $95::timestamptz[])
        AS r(shard, id, tenant, reason, invocation, created_at)
    JOIN fence ON fence.id = r.shard
)
SELECT id FROM fence";

#[cfg(test)]
mod tests {
    use super::*;

    /// A parameter that is bound but not used, or the reverse, would only show at run time.
    #[test]
    fn every_parameter_is_used() {
        for n in 1..=95 {
            assert!(STATEMENT.contains(&format!("${n}::")), "${n}");
        }
        assert!(!STATEMENT.contains("$96"));
    }
}
