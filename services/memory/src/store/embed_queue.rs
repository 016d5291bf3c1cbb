//! Memories and pieces of documents that wait for their vector. Claims read the queue of every tenant, ids only; texts
//! are read per tenant. What no embedder takes stays in the queue for ever (`next_at` is infinity), so that an item
//! has its vector if and only if it is not in the queue.

use std::time::Duration;

use mesh_store::{IdExt, every_tenant_tx};
use mesh_types::{ChunkId, MemoryId, Tenant, Timestamp};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::vectors::{Vector, by_dimensions};
use crate::embed::{Dimensions, Model};

const PUT: &str = "INSERT INTO memory.embed_queue (tenant, memory, next_at) VALUES ($1, $2, $3)
    ON CONFLICT (tenant, memory) DO UPDATE SET attempts = 0, next_at = excluded.next_at, error = NULL";

pub(crate) async fn put(
    tx: &mut PgConnection,
    tenant: &Tenant,
    id: MemoryId,
    next_at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(PUT)
        .bind(tenant.as_str())
        .bind(id.to_uuid())
        .bind(next_at.to_chrono())
        .execute(tx)
        .await
        .map(|_| ())
}

const PUT_CHUNKS: &str = "INSERT INTO memory.embed_queue (tenant, chunk, next_at)
    SELECT $1, id, $3 FROM unnest($2::uuid[]) AS id
    ON CONFLICT (tenant, chunk) DO UPDATE SET attempts = 0, next_at = excluded.next_at, error = NULL";

/// Pieces of a document, all at once.
pub(crate) async fn put_chunks(
    tx: &mut PgConnection,
    tenant: &Tenant,
    ids: &[ChunkId],
    next_at: Timestamp,
) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.to_uuid()).collect();
    sqlx::query(PUT_CHUNKS)
        .bind(tenant.as_str())
        .bind(ids)
        .bind(next_at.to_chrono())
        .execute(tx)
        .await
        .map(|_| ())
}

const REMOVE: &str = "DELETE FROM memory.embed_queue WHERE tenant = $1 AND memory = $2";

pub(crate) async fn remove(tx: &mut PgConnection, tenant: &Tenant, id: MemoryId) -> Result<(), sqlx::Error> {
    sqlx::query(REMOVE)
        .bind(tenant.as_str())
        .bind(id.to_uuid())
        .execute(tx)
        .await
        .map(|_| ())
}

/// What has a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Item {
    Memory(MemoryId),
    Chunk(ChunkId),
}

impl Item {
    fn of(memory: Option<Uuid>, chunk: Option<Uuid>) -> Result<Self, sqlx::Error> {
        match (memory, chunk) {
            (Some(memory), None) => Ok(Self::Memory(IdExt::from_uuid(memory))),
            (None, Some(chunk)) => Ok(Self::Chunk(IdExt::from_uuid(chunk))),
            _ => Err(sqlx::Error::Decode("an item is a memory or a chunk".into())),
        }
    }

    fn uuid(self) -> Uuid {
        match self {
            Self::Memory(id) => id.to_uuid(),
            Self::Chunk(id) => id.to_uuid(),
        }
    }
}

/// One item to embed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) tenant: Tenant,
    pub(crate) item: Item,
    /// This one included.
    pub(crate) attempts: u32,
}

// The newest first: what was just stored does not wait behind a hundred thousand texts of another model.
const CLAIM: &str = "UPDATE memory.embed_queue AS q SET attempts = q.attempts + 1, next_at = $2
    FROM (
        SELECT ctid FROM memory.embed_queue WHERE next_at <= $1
        ORDER BY next_at DESC LIMIT $3 FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE q.ctid = due.ctid
    RETURNING q.tenant, q.memory, q.chunk, q.attempts";

/// Takes up to `count` that are due; whoever takes them has them for `lease`.
pub(crate) async fn claim(
    pool: &PgPool,
    now: Timestamp,
    lease: Duration,
    count: i64,
) -> Result<Vec<Claim>, sqlx::Error> {
    let mut tx = every_tenant_tx(pool).await?;
    let rows: Vec<(String, Option<Uuid>, Option<Uuid>, i32)> = sqlx::query_as(CLAIM)
        .bind(now.to_chrono())
        .bind(now.plus(lease).to_chrono())
        .bind(count)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    let claim = |(tenant, memory, chunk, attempts): (String, Option<Uuid>, Option<Uuid>, i32)| {
        Ok(Claim {
            tenant: tenant.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            item: Item::of(memory, chunk)?,
            attempts: attempts.unsigned_abs(),
        })
    };
    rows.into_iter().map(claim).collect()
}

/// What is to be embedded, as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) item: Item,
    pub(crate) attempts: u32,
    pub(crate) content: String,
}

// A piece is found by what it stands below, too.
const TEXTS: &str = "SELECT m.id AS memory, NULL::uuid AS chunk, m.content
        FROM memory.memory AS m WHERE m.tenant = $1 AND m.id = ANY ($2)
    UNION ALL
    SELECT NULL, c.id, concat_ws(E'\\n', nullif(array_to_string(c.headings, ' > '), ''), c.content)
        FROM memory.chunk AS c WHERE c.tenant = $1 AND c.id = ANY ($2)";

/// The texts of some claims; what is gone meanwhile is left out.
pub(crate) async fn texts(tx: &mut PgConnection, tenant: &Tenant, claims: &[Claim]) -> Result<Vec<Text>, sqlx::Error> {
    let ids: Vec<Uuid> = claims.iter().map(|claim| claim.item.uuid()).collect();
    let rows: Vec<(Option<Uuid>, Option<Uuid>, String)> = sqlx::query_as(TEXTS)
        .bind(tenant.as_str())
        .bind(ids)
        .fetch_all(tx)
        .await?;
    let mut texts = Vec::with_capacity(rows.len());
    for (memory, chunk, content) in rows {
        let item = Item::of(memory, chunk)?;
        if let Some(claim) = claims.iter().find(|claim| claim.item == item) {
            let attempts = claim.attempts;
            texts.push(Text {
                item,
                attempts,
                content,
            });
        }
    }
    Ok(texts)
}

/// `$read` gives those of the `given` items that are as they were read: id, owner, embedding.
macro_rules! fill {
    ($item:literal, $dimensions:expr, $read:literal) => {
        by_dimensions!(
            $dimensions,
            concat!(
                "WITH given AS (
                    SELECT * FROM unnest($2::uuid[], $3::bytea[], $4::public.halfvec[]) AS g (id, hash, embedding)
                ), same AS MATERIALIZED (",
                $read,
                "), filled AS (INSERT INTO memory.",
                $item,
                "_vector_"
            ),
            concat!(
                " (tenant, item, owner, model, embedding)
                    SELECT $1, id, owner, $5, embedding FROM same
                    ON CONFLICT (tenant, item, model)
                    DO UPDATE SET embedding = excluded.embedding, owner = excluded.owner
                )
                DELETE FROM memory.embed_queue AS q USING same WHERE q.tenant = $1 AND q.",
                $item,
                " = same.id"
            )
        )
    };
}

const fn fill_memories(dimensions: Dimensions) -> &'static str {
    fill!(
        "memory",
        dimensions,
        "SELECT m.id, m.owner, given.embedding FROM memory.memory AS m JOIN given ON given.id = m.id
            WHERE m.tenant = $1 AND m.superseded_by IS NULL
            AND sha256(convert_to(m.content, 'UTF8')) = given.hash FOR SHARE OF m"
    )
}

/// A piece of a document never changes.
const fn fill_chunks(dimensions: Dimensions) -> &'static str {
    fill!(
        "chunk",
        dimensions,
        "SELECT c.id, c.owner, given.embedding FROM memory.chunk AS c JOIN given ON given.id = c.id
            WHERE c.tenant = $1 FOR SHARE OF c"
    )
}

/// Stores the vectors of what is as it was read, and takes it out of the queue; the rest stays there.
pub(crate) async fn fill(
    tx: &mut PgConnection,
    tenant: &Tenant,
    model: &Model,
    embedded: &[(Text, Vector)],
) -> Result<(), sqlx::Error> {
    type Chosen = fn(&Item) -> bool;
    let statements: [(Chosen, &'static str); 2] = [
        (|item| matches!(item, Item::Memory(_)), fill_memories(model.dimensions)),
        (|item| matches!(item, Item::Chunk(_)), fill_chunks(model.dimensions)),
    ];
    for (is_chosen, statement) in statements {
        let chosen: Vec<_> = embedded.iter().filter(|(text, _)| is_chosen(&text.item)).collect();
        if chosen.is_empty() {
            continue;
        }
        let ids: Vec<Uuid> = chosen.iter().map(|(text, _)| text.item.uuid()).collect();
        let hashes: Vec<Vec<u8>> = chosen
            .iter()
            .map(|(text, _)| Sha256::digest(&text.content).to_vec())
            .collect();
        let vectors: Vec<_> = chosen.iter().map(|(_, vector)| vector.half()).collect();
        sqlx::query(statement)
            .bind(tenant.as_str())
            .bind(ids)
            .bind(hashes)
            .bind(vectors)
            .bind(&*model.name)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

// What was put there anew meanwhile, with another content, is tried as such: its attempts are 0.
const POSTPONE: &str = "UPDATE memory.embed_queue AS q SET next_at = coalesce(g.next_at, 'infinity'), error = $4
    FROM unnest($2::uuid[], $3::timestamptz[]) AS g (id, next_at)
    WHERE q.tenant = $1 AND (q.memory = g.id OR q.chunk = g.id) AND q.attempts > 0";

/// Tries each again at its time; `None`: never, unless the model becomes another one.
pub(crate) async fn postpone(
    tx: &mut PgConnection,
    tenant: &Tenant,
    items: &[(Item, Option<Timestamp>)],
    error: &str,
) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = items.iter().map(|(item, _)| item.uuid()).collect();
    let times: Vec<_> = items.iter().map(|(_, at)| at.map(Timestamp::to_chrono)).collect();
    sqlx::query(POSTPONE)
        .bind(tenant.as_str())
        .bind(ids)
        .bind(times)
        .bind(error)
        .execute(tx)
        .await
        .map(|_| ())
}
