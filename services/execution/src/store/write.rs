//! The one fenced statement (EXECUTION.md §3): a whole batch, or nothing of a shard that is no longer ours.

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{Postgres, Row};

use super::columns::{Columns, InvocationColumns, OpenColumns};
use super::statement::{NARROW, USUAL};
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
    let breadth = Breadth::of(columns);
    let statement: &'static str = match breadth {
        Breadth::Usual => USUAL,
        Breadth::Narrow => NARROW,
        Breadth::Wide => &WIDE,
    };
    #[cfg(feature = "planted-bugs")]
    let statement = planted(statement);
    let query = sqlx::query(statement)
        .bind(fences.iter().map(|fence| fence.shard).collect::<Vec<_>>())
        .bind(fences.iter().map(|fence| fence.epoch).collect::<Vec<_>>())
        .bind(fences.iter().map(|fence| fence.batch).collect::<Vec<_>>())
        .bind(fences.iter().map(|fence| fence.relayed).collect::<Vec<_>>())
        .bind(fences.iter().map(|fence| fence.feed.as_slice()).collect::<Vec<_>>())
        .bind(at);
    let mut query = bind_usual(query, columns);
    if breadth >= Breadth::Narrow {
        query = bind_seldom(query, columns);
    }
    if breadth == Breadth::Wide {
        query = wide::bind(query, &columns.wide);
    }
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
            "AND o.invocation = r.id\n), record AS",
            "AND o.invocation = r.id AND false\n), record AS",
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

/// How much of the statement a batch needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Breadth {
    Usual,
    Narrow,
    Wide,
}

impl Breadth {
    fn of(columns: &Columns) -> Self {
        let Columns {
            key,
            changed,
            body,
            dead,
            ended,
            wide,
            invocation: _,
            opened: _,
            closed: _,
            record: _,
            bytes: _,
        } = columns;
        let is_keyed = !key.id.is_empty() || ended.key.iter().any(Option::is_some);
        if !wide.is_empty() {
            Self::Wide
        } else if is_keyed || !(changed.id.is_empty() && body.root.is_empty() && dead.id.is_empty()) {
            Self::Narrow
        } else {
            Self::Usual
        }
    }
}

fn bind_usual<'q>(query: Bound<'q>, columns: &'q Columns) -> Bound<'q> {
    let query = bind_invocation(query, &columns.invocation);
    let query = bind_open(query, &columns.opened);
    let query = query.bind(&columns.closed.shard).bind(&columns.closed.id);
    let query = bind_records(query, columns);
    bind_ends(query, columns)
}

fn bind_seldom<'q>(query: Bound<'q>, columns: &'q Columns) -> Bound<'q> {
    let (key, body, dead) = (&columns.key, &columns.body, &columns.dead);
    let query = query
        .bind(&key.shard)
        .bind(&key.tenant)
        .bind(&key.key)
        .bind(&key.request_hash)
        .bind(&key.id);
    bind_open(query, &columns.changed)
        .bind(&body.shard)
        .bind(&body.root)
        .bind(&body.hash)
        .bind(&body.part)
        .bind(&body.tenant)
        .bind(&body.bytes)
        .bind(&dead.shard)
        .bind(&dead.id)
        .bind(&dead.tenant)
        .bind(&dead.reason)
        .bind(&dead.invocation)
        .bind(&dead.created_at)
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

fn bind_open<'q>(query: Bound<'q>, rows: &'q OpenColumns) -> Bound<'q> {
    query
        .bind(&rows.shard)
        .bind(&rows.id)
        .bind(&rows.tenant)
        .bind(&rows.state)
        .bind(&rows.epoch)
        .bind(&rows.node)
        .bind(&rows.incarnation)
        .bind(&rows.wake_at)
        .bind(&rows.priority)
        .bind(&rows.started_at)
}

fn bind_records<'q>(query: Bound<'q>, columns: &'q Columns) -> Bound<'q> {
    let rows = &columns.record;
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
}

fn bind_ends<'q>(query: Bound<'q>, columns: &'q Columns) -> Bound<'q> {
    let rows = &columns.ended;
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
}
