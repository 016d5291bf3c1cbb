//! The same searches by plain SQL: what the service is measured against. Each client has its own connection, prepared
//! statements, and no row level security; each way is the one that is best for it.

use std::collections::HashSet;

use pgvector::HalfVector;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row as _};
use uuid::Uuid;

use super::ground::Ground;
use super::measure::{Filter, K};
use super::rows::{OWNER, Table};

/// As the service searches.
const EF_SEARCH: u32 = 100;

/// One client.
pub(super) struct Plain {
    connection: PgConnection,
    statement: String,
}

impl Plain {
    pub(super) async fn connect(ground: &Ground, table: Table, filter: Filter) -> anyhow::Result<Self> {
        let mut connection = ground.database().await?;
        let settings = format!(
            "SET jit = off; SET plan_cache_mode = force_generic_plan; SET hnsw.ef_search = {EF_SEARCH};
             SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
             SET max_parallel_workers_per_gather = 0"
        );
        connection.execute(AssertSqlSafe(settings)).await?;
        let nearest = nearest(table, filter, filter == Filter::None);
        let statement = format!(
            "SELECT m.id, m.agent, m.kind, m.content, m.tags, m.importance, m.metadata, m.created_at, m.updated_at,
                1 - near.distance AS similarity
             FROM ({nearest}) AS near JOIN memory.memory AS m ON m.tenant = 'default' AND m.id = near.item
             ORDER BY near.distance"
        );
        Ok(Self { connection, statement })
    }

    pub(super) async fn search(&mut self, vector: &[f32]) -> anyhow::Result<Vec<Uuid>> {
        let query = sqlx::query(AssertSqlSafe(self.statement.clone()));
        let rows = query
            .bind(HalfVector::from_f32_slice(vector))
            .fetch_all(&mut self.connection)
            .await?;
        let mut ids = Vec::with_capacity(rows.len());
        for row in rows {
            // What a caller would read.
            let (_content, _similarity): (String, f64) = (row.try_get("content")?, row.try_get("similarity")?);
            ids.push(row.try_get("id")?);
        }
        Ok(ids)
    }
}

/// The really nearest, by a sort of all.
pub(super) async fn exact(
    connection: &mut PgConnection,
    table: Table,
    filter: Filter,
    vector: &[f32],
) -> anyhow::Result<HashSet<Uuid>> {
    let statement = nearest(table, filter, false);
    let rows = sqlx::query(AssertSqlSafe(statement))
        .bind(HalfVector::from_f32_slice(vector))
        .fetch_all(connection)
        .await?;
    Ok(rows.iter().map(|row| row.try_get("item")).collect::<Result<_, _>>()?)
}

fn nearest(table: Table, filter: Filter, by_graph: bool) -> String {
    let (name, model) = (table.name(), table.model());
    let of = match filter {
        Filter::None => String::new(),
        Filter::OnePercent => {
            format!("WHERE v.tenant = 'default' AND v.owner = '{OWNER}' AND v.model = '{model}'")
        }
    };
    let distance = "v.embedding OPERATOR(public.<=>) $1";
    // For the sort an expression that the graph does not know; the same one in both places is computed once.
    let distance = if by_graph {
        distance.to_owned()
    } else {
        format!("({distance}) + 0")
    };
    format!("SELECT v.item, {distance} AS distance FROM {name} AS v {of} ORDER BY {distance} LIMIT {K}")
}
