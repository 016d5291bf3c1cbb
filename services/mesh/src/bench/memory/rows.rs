//! What is searched: memories with made-up vectors, straight into the tables; then the graph, which is timed.

use std::time::{Duration, Instant};

use mesh_types::{Id as _, MemoryId};
use pgvector::HalfVector;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use uuid::Uuid;

use super::mixture::Mixture;
use crate::bench::progress::Progress;

/// Owns one memory in a hundred; the others are the tenant's, which all agents share.
pub(super) const AGENT: &str = "one";
pub(super) const OWNER: &str = "a:one";
const SHARE: u64 = 100;
const BATCH: u64 = 500;

/// One table of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) dims: u32,
    pub(super) rows: u64,
}

/// How long it took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loaded {
    pub(super) load: Duration,
    /// Of the graph.
    pub(super) build: Duration,
}

impl Table {
    pub(super) fn name(self) -> String {
        format!("memory.memory_vector_{}", self.dims)
    }

    pub(super) fn model(self) -> String {
        format!("bench-{}", self.dims)
    }

    fn graph(self) -> String {
        format!("memory_vector_{}_near", self.dims)
    }
}

const PUT: &str = "
    INSERT INTO memory.memory (tenant, id, agent, kind, content, tags, importance, metadata, body_hash, scope,
        created_at, updated_at)
    SELECT 'default', i.id, CASE WHEN i.is_own THEN 'one' ELSE 'many' END, 'semantic', i.content, '{bench}', 0.5, '{}',
        '', CASE WHEN i.is_own THEN 'agent' ELSE 'tenant' END, now(), now()
    FROM unnest($1::uuid[], $2::text[], $3::boolean[]) AS i (id, content, is_own)";

/// The memories, once for all tables.
pub(super) async fn put_memories(connection: &mut PgConnection, rows: u64) -> anyhow::Result<()> {
    for start in (0..rows).step_by(BATCH as usize) {
        let numbers = start..rows.min(start + BATCH);
        let contents = numbers.clone().map(|number| {
            format!(
                "Note {number}: the customer asked about delivery {} and was told that it comes soon",
                number % 977
            )
        });
        sqlx::query(PUT)
            .bind(numbers.clone().map(id).collect::<Vec<Uuid>>())
            .bind(contents.collect::<Vec<String>>())
            .bind(numbers.map(|number| number % SHARE == 0).collect::<Vec<bool>>())
            .execute(&mut *connection)
            .await?;
    }
    connection.execute("VACUUM (ANALYZE) memory.memory").await?;
    Ok(())
}

/// The vectors and their graph, as one that grew would be; it is analysed as the autovacuum does it.
pub(super) async fn put_vectors(
    connection: &mut PgConnection,
    table: Table,
    mixture: &mut Mixture,
    progress: &Progress,
) -> anyhow::Result<Loaded> {
    let Table { dims, rows } = table;
    let (name, graph) = (table.name(), table.graph());
    progress.phase(&format!("loading {rows} vectors of {dims} numbers"));
    let began = Instant::now();
    run(connection, format!("DROP INDEX memory.{graph}")).await?;
    for start in (0..rows).step_by(BATCH as usize) {
        let numbers = start..rows.min(start + BATCH);
        let vectors = numbers.clone().map(|_| HalfVector::from_f32_slice(&mixture.vector()));
        let put = format!(
            "INSERT INTO {name} (tenant, item, owner, model, embedding)
             SELECT 'default', i.id, CASE WHEN i.is_own THEN '{OWNER}' ELSE 't' END, $1, i.embedding
             FROM unnest($2::uuid[], $3::boolean[], $4) AS i (id, is_own, embedding)"
        );
        sqlx::query(AssertSqlSafe(put))
            .bind(table.model())
            .bind(numbers.clone().map(id).collect::<Vec<Uuid>>())
            .bind(numbers.map(|number| number % SHARE == 0).collect::<Vec<bool>>())
            .bind(vectors.collect::<Vec<HalfVector>>())
            .execute(&mut *connection)
            .await?;
    }
    let load = began.elapsed();
    progress.phase(&format!("building the graph of {rows} vectors of {dims} numbers"));
    let began = Instant::now();
    connection.execute("SET maintenance_work_mem = '1GB'").await?;
    run(
        connection,
        format!("CREATE INDEX {graph} ON {name} USING hnsw (embedding public.halfvec_cosine_ops)"),
    )
    .await?;
    let build = began.elapsed();
    run(connection, format!("VACUUM (ANALYZE) {name}")).await?;
    connection.execute("CHECKPOINT").await?;
    Ok(Loaded { load, build })
}

async fn run(connection: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    // Made of numbers and constants above.
    connection.execute(AssertSqlSafe(statement)).await.map(drop)
}

fn id(number: u64) -> Uuid {
    Uuid::from_u128(MemoryId::from_u128(u128::from(number) + 1).as_u128())
}
