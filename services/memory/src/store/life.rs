//! Storing one memory: locks, what is known of it, a new row with all that belongs to it, or one more sight of an old.

use std::time::Duration;

use mesh_api::memory::StoreRequest;
use mesh_store::IdExt;
use mesh_types::event::Event;
use mesh_types::{Id as _, InvocationId, MemoryId, Tenant, Timestamp};
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::vectors::{Vector, by_dimensions};
use super::{Row, columns};
use crate::embed::Dimensions;
use crate::request::TAGS_MAX;
use crate::same::lock_key;

/// A checked request as it is stored.
#[derive(Debug)]
pub(crate) struct NewMemory<'a> {
    pub(crate) id: MemoryId,
    pub(crate) request: &'a StoreRequest,
    pub(crate) owner: String,
    pub(crate) metadata: String,
    pub(crate) body_hash: [u8; 32],
    pub(crate) content_hash: [u8; 32],
    pub(crate) vector: Option<Vector>,
    pub(crate) at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
}

/// Whether a store may be taken for a repeat of another memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duplicates {
    Merge,
    Keep,
}

const BEGIN: &str = "SELECT set_config('mesh.tenant', $1, true),
    pg_advisory_xact_lock($2)::text, pg_advisory_xact_lock($3)::text";

/// A transaction of the tenant in which nobody else stores this id or this content. Locks before the first read, in
/// the order of their keys, so that two stores never wait for each other.
pub(crate) async fn begin(
    pool: &PgPool,
    tenant: &Tenant,
    new: &NewMemory<'_>,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let tenant = tenant.as_str().as_bytes();
    let of_id = lock_key(&[tenant, b"id", &new.id.as_u128().to_be_bytes()]);
    let kind = new.request.kind.as_str().as_bytes();
    let of_content = lock_key(&[tenant, new.owner.as_bytes(), kind, &new.content_hash]);
    let mut tx = pool.begin().await?;
    sqlx::query(BEGIN)
        .bind(str::from_utf8(tenant).unwrap_or_default())
        .bind(of_id.min(of_content))
        .bind(of_id.max(of_content))
        .execute(&mut *tx)
        .await?;
    Ok(tx)
}

/// What is known of an id and of its content.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Known {
    /// Of the request that first came with this id.
    pub(crate) body_hash: Option<Vec<u8>>,
    pub(crate) is_forgotten: bool,
    /// Another memory that says the same.
    pub(crate) same: Option<Uuid>,
}

const LOOK: &str = "SELECT
    coalesce(
        (SELECT m.body_hash FROM memory.memory AS m WHERE m.tenant = $1 AND m.id = $2),
        (SELECT a.body_hash FROM memory.alias AS a WHERE a.tenant = $1 AND a.id = $2)
    ) AS body_hash,
    EXISTS (SELECT FROM memory.forgotten AS f WHERE f.tenant = $1 AND f.memory = $2) AS is_forgotten,
    (
        SELECT m.id FROM memory.memory AS m
        WHERE m.tenant = $1 AND m.owner = $3 AND m.kind = $4 AND m.content_hash = $5
            AND m.superseded_by IS NULL AND (m.expires_at IS NULL OR m.expires_at > $6)
            AND m.session IS NOT DISTINCT FROM $7 AND m.user_id IS NOT DISTINCT FROM $8
            AND ($9 = '{}' OR m.metadata = $9) AND m.id <> ALL($10::uuid[])
            AND cardinality(m.tags) + cardinality($11::text[]) <= $12
        ORDER BY m.created_at, m.id LIMIT 1
    ) AS same";

/// Reads under the locks of [`begin`]. The same is said by a memory of the same owner and kind, of the same session and
/// user where they are named, whose metadata are equal or would not be lost; never by one that is being replaced.
pub(crate) async fn look(
    tx: &mut PgConnection,
    tenant: &Tenant,
    new: &NewMemory<'_>,
    duplicates: Duplicates,
) -> Result<Known, sqlx::Error> {
    let request = new.request;
    let content_hash = (duplicates == Duplicates::Merge).then_some(new.content_hash.as_slice());
    let replaced: Vec<Uuid> = request.supersedes.iter().map(|id| id.to_uuid()).collect();
    sqlx::query_as(LOOK)
        .bind(tenant.as_str())
        .bind(new.id.to_uuid())
        .bind(&new.owner)
        .bind(request.kind.as_str())
        .bind(content_hash)
        .bind(new.at.to_chrono())
        .bind(&request.session)
        .bind(&request.user)
        .bind(&new.metadata)
        .bind(replaced)
        .bind(&request.tags)
        .bind(i32::try_from(TAGS_MAX).unwrap_or(i32::MAX))
        .fetch_one(tx)
        .await
}

/// The row with what belongs to it, in one statement.
macro_rules! insert {
    () => {
        "WITH stored AS (
            INSERT INTO memory.memory (tenant, id, agent, kind, content, tags, importance, source_invocation,
                source_step, metadata, body_hash, created_at, updated_at, scope, session, user_id, content_hash,
                expires_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $13, $14, $15, $16, $17)
            RETURNING *
        ), of_tenant AS (
            INSERT INTO memory.tenant (tenant) VALUES ($1) ON CONFLICT DO NOTHING
        ), expiry AS (
            INSERT INTO memory.expiry (tenant, memory, at)
            SELECT tenant, id, expires_at FROM stored WHERE expires_at IS NOT NULL
        ), told AS (
            INSERT INTO memory.event (tenant, id, body, at) VALUES ($1, $18, $19, $12)
        )"
    };
}

macro_rules! select {
    () => {
        concat!(" SELECT ", columns!(), " FROM stored AS m")
    };
}

const INSERT: &str = concat!(insert!(), select!());

const fn insert_with_vector(dimensions: Dimensions) -> &'static str {
    by_dimensions!(
        dimensions,
        concat!(
            insert!(),
            ", near AS (
                INSERT INTO memory.memory_vector_"
        ),
        concat!(
            " (tenant, item, owner, model, embedding)
                SELECT tenant, id, owner, $20, $21 FROM stored
            )",
            select!()
        )
    )
}

/// Stores the new row, its vector, its expiry and the event that tells of it.
pub(crate) async fn insert(
    tx: &mut PgConnection,
    tenant: &Tenant,
    new: &NewMemory<'_>,
    event: &Event,
) -> Result<Row, sqlx::Error> {
    let body = serde_json::to_string(event).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    let statement = match &new.vector {
        Some(vector) => insert_with_vector(vector.model.dimensions),
        None => INSERT,
    };
    let query = bind_new(sqlx::query_as(statement), tenant, new)
        .bind(event.id.to_uuid())
        .bind(body);
    match &new.vector {
        Some(vector) => query.bind(&*vector.model.name).bind(vector.half()).fetch_one(tx).await,
        None => query.fetch_one(tx).await,
    }
}

type Query<'q> = QueryAs<'q, Postgres, Row, PgArguments>;

/// $1 to $17.
fn bind_new<'q>(query: Query<'q>, tenant: &'q Tenant, new: &'q NewMemory<'_>) -> Query<'q> {
    let request = new.request;
    query
        .bind(tenant.as_str())
        .bind(new.id.to_uuid())
        .bind(request.agent.as_str())
        .bind(request.kind.as_str())
        .bind(&request.content)
        .bind(&request.tags)
        .bind(request.importance)
        .bind(source(request).map(IdExt::to_uuid))
        .bind(request.source.as_ref().map(|source| i64::from(source.step)))
        .bind(&new.metadata)
        .bind(new.body_hash.as_slice())
        .bind(new.at.to_chrono())
        .bind(request.scope.as_str())
        .bind(&request.session)
        .bind(&request.user)
        .bind(new.content_hash.as_slice())
        .bind(new.expires_at.map(Timestamp::to_chrono))
}

fn source(request: &StoreRequest) -> Option<InvocationId> {
    request.source.as_ref().map(|source| source.invocation)
}

const SEEN: &str = concat!(
    "WITH stored AS (
        UPDATE memory.memory AS m SET
            seen = m.seen + 1,
            importance = greatest(m.importance, $3),
            tags = m.tags || ARRAY(
                SELECT tag FROM unnest($4::text[]) WITH ORDINALITY AS later (tag, place)
                WHERE tag <> ALL(m.tags) ORDER BY place
            ),
            -- As long as the longer of the two; NULL is for good.
            expires_at = CASE WHEN m.expires_at IS NULL OR $5 IS NULL THEN NULL ELSE greatest(m.expires_at, $5) END,
            updated_at = $6
        WHERE m.tenant = $1 AND m.id = $2 AND m.content_hash = $7 AND m.superseded_by IS NULL
        RETURNING m.*
    ), alias AS (
        INSERT INTO memory.alias (tenant, id, memory, body_hash, at, source_invocation)
        SELECT tenant, $8, id, $9, $6, $10 FROM stored
    )",
    select!()
);

/// The memory `same` was said once more: counts it, and lets the new id lead to it. `None`: it changed meanwhile.
pub(crate) async fn see_again(
    tx: &mut PgConnection,
    tenant: &Tenant,
    same: MemoryId,
    new: &NewMemory<'_>,
) -> Result<Option<Row>, sqlx::Error> {
    let request = new.request;
    let row: Option<Row> = sqlx::query_as(SEEN)
        .bind(tenant.as_str())
        .bind(same.to_uuid())
        .bind(request.importance)
        .bind(&request.tags)
        .bind(new.expires_at.map(Timestamp::to_chrono))
        .bind(new.at.to_chrono())
        .bind(new.content_hash.as_slice())
        .bind(new.id.to_uuid())
        .bind(new.body_hash.as_slice())
        .bind(source(request).map(IdExt::to_uuid))
        .fetch_optional(&mut *tx)
        .await?;
    if row.is_some() {
        super::expiry::follow(tx, tenant, same).await?;
    }
    Ok(row)
}

const NAMED: &str = "SELECT m.id FROM unnest($2::uuid[]) WITH ORDINALITY AS named (id, place)
    LEFT JOIN memory.alias AS a ON a.tenant = $1 AND a.id = named.id
    LEFT JOIN memory.memory AS m ON m.tenant = $1 AND m.id = coalesce(a.memory, named.id)
        AND (m.agent = $3 OR m.scope IN ('tenant', 'user'))
    ORDER BY named.place";

const LOCK: &str =
    "SELECT m.id FROM memory.memory AS m WHERE m.tenant = $1 AND m.id = ANY($2) ORDER BY m.id FOR UPDATE";

/// The memories that `ids` lead to, those that the agent shares and that are there; locked together with `same`, in
/// the order of their ids. In the place of each of the others stands `None`.
pub(crate) async fn named(
    tx: &mut PgConnection,
    tenant: &Tenant,
    new: &NewMemory<'_>,
    ids: &[MemoryId],
    same: Option<MemoryId>,
) -> Result<Vec<Option<MemoryId>>, sqlx::Error> {
    let asked: Vec<Uuid> = ids.iter().map(|id| id.to_uuid()).collect();
    let found: Vec<Option<Uuid>> = sqlx::query_scalar(NAMED)
        .bind(tenant.as_str())
        .bind(asked)
        .bind(new.request.agent.as_str())
        .fetch_all(&mut *tx)
        .await?;
    let mut wanted: Vec<Uuid> = found.iter().flatten().copied().collect();
    wanted.extend(same.map(IdExt::to_uuid));
    let locked: Vec<Uuid> = sqlx::query_scalar(LOCK)
        .bind(tenant.as_str())
        .bind(wanted)
        .fetch_all(tx)
        .await?;
    let still = |id: Option<Uuid>| id.filter(|id| locked.contains(id)).map(IdExt::from_uuid);
    Ok(found.into_iter().map(still).collect())
}

const SUPERSEDE: &str = "WITH replaced AS (
        UPDATE memory.memory SET superseded_by = $3, updated_at = $4
        WHERE tenant = $1 AND id = ANY($2) AND id <> $3 AND superseded_by IS DISTINCT FROM $3
        RETURNING id, agent
    ), a AS (DELETE FROM memory.memory_vector_384 WHERE tenant = $1 AND item IN (SELECT id FROM replaced)),
    b AS (DELETE FROM memory.memory_vector_768 WHERE tenant = $1 AND item IN (SELECT id FROM replaced)),
    c AS (DELETE FROM memory.memory_vector_1024 WHERE tenant = $1 AND item IN (SELECT id FROM replaced)),
    d AS (DELETE FROM memory.memory_vector_1536 WHERE tenant = $1 AND item IN (SELECT id FROM replaced)),
    e AS (DELETE FROM memory.memory_vector_3072 WHERE tenant = $1 AND item IN (SELECT id FROM replaced)),
    waiting AS (DELETE FROM memory.embed_queue WHERE tenant = $1 AND memory IN (SELECT id FROM replaced))
    SELECT id, agent FROM replaced ORDER BY id";

/// Keeps those memories and their history, found no more. Answers which were not replaced by `by` already, and whose.
pub(crate) async fn supersede(
    tx: &mut PgConnection,
    tenant: &Tenant,
    replaced: &[MemoryId],
    by: MemoryId,
    at: Timestamp,
) -> Result<Vec<(MemoryId, String)>, sqlx::Error> {
    let replaced: Vec<Uuid> = replaced.iter().map(|id| id.to_uuid()).collect();
    let rows: Vec<(Uuid, String)> = sqlx::query_as(SUPERSEDE)
        .bind(tenant.as_str())
        .bind(replaced)
        .bind(by.to_uuid())
        .bind(at.to_chrono())
        .fetch_all(tx)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(id, agent)| (IdExt::from_uuid(id), agent))
        .collect())
}

const DERIVE: &str = "INSERT INTO memory.derived (tenant, memory, source)
    SELECT $1, $2, source FROM unnest($3::uuid[]) AS source WHERE source <> $2 ON CONFLICT DO NOTHING";

/// Notes what a memory was made of.
pub(crate) async fn derive(
    tx: &mut PgConnection,
    tenant: &Tenant,
    memory: MemoryId,
    sources: &[MemoryId],
) -> Result<(), sqlx::Error> {
    let sources: Vec<Uuid> = sources.iter().map(|id| id.to_uuid()).collect();
    sqlx::query(DERIVE)
        .bind(tenant.as_str())
        .bind(memory.to_uuid())
        .bind(sources)
        .execute(tx)
        .await
        .map(|_| ())
}

/// How long a memory without a time of its own is kept; `None`: for good.
pub(crate) fn lifetime(request: &StoreRequest, working: Duration) -> Option<Duration> {
    use mesh_api::memory::MemoryType;
    match request.ttl_seconds {
        Some(0) => None,
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => (request.kind == MemoryType::Working).then_some(working),
    }
}
