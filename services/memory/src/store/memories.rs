//! Rows of `memory.memory`: one by its id or an id that leads to it, and pages of them.

use mesh_api::memory::{ListMemories, MemoryType, Scope};
use mesh_store::IdExt;
use mesh_types::{MemoryId, Tenant, Timestamp};
use sqlx::PgConnection;

use super::{Row, columns};

/// Text of one page, in bytes; a reply of the bus holds 8 MB, and JSON escapes some.
pub(crate) const PAGE_BYTES_MAX: i64 = 2 * 1024 * 1024;

const GET: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM memory.memory AS m WHERE m.tenant = $1 AND m.id = coalesce(
        (SELECT a.memory FROM memory.alias AS a WHERE a.tenant = $1 AND a.id = $2), $2)
    AND (m.expires_at IS NULL OR m.expires_at > $3)"
);

/// The memory that an id leads to, unless its time is over.
pub(crate) async fn get(
    tx: &mut PgConnection,
    tenant: &Tenant,
    id: MemoryId,
    now: Timestamp,
) -> Result<Option<Row>, sqlx::Error> {
    sqlx::query_as(GET)
        .bind(tenant.as_str())
        .bind(id.to_uuid())
        .bind(now.to_chrono())
        .fetch_optional(tx)
        .await
}

/// Where a page goes on: after this memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) created_at: Timestamp,
    pub(crate) id: MemoryId,
}

// A page is cut by the bytes of its texts before they are read.
const LIST: &str = concat!(
    "WITH page AS (
        SELECT m.id, m.created_at, octet_length(m.content) + octet_length(m.metadata) AS bytes
        FROM memory.memory AS m
        WHERE m.tenant = $1 AND ($2::text IS NULL OR m.agent = $2) AND ($3::text IS NULL OR m.kind = $3)
            AND ($4::text IS NULL OR m.scope = $4) AND ($5::text IS NULL OR m.session = $5)
            AND ($6::text IS NULL OR m.user_id = $6) AND ($7::text IS NULL OR m.tags @> ARRAY[$7])
            AND ($8::uuid IS NULL OR m.source_invocation = $8) AND ($9 OR m.superseded_by IS NULL)
            AND (m.expires_at IS NULL OR m.expires_at > $10)
            AND ($11::timestamptz IS NULL OR (m.created_at, m.id) < ($11, $12::uuid))
        ORDER BY m.created_at DESC, m.id DESC LIMIT $13
    ), cut AS (
        SELECT id, sum(bytes) OVER (ORDER BY created_at DESC, id DESC) - bytes AS newer, count(*) OVER () AS found
        FROM page
    )
    SELECT cut.found, ",
    columns!(),
    " FROM cut JOIN memory.memory AS m ON m.tenant = $1 AND m.id = cut.id
    WHERE cut.newer < $14 ORDER BY m.created_at DESC, m.id DESC"
);

/// A row of a page, and how many the page would have if bytes did not count.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Listed {
    #[sqlx(flatten)]
    pub(crate) row: Row,
    found: i64,
}

/// Newest first, those after `after`; whether there are more.
pub(crate) async fn list(
    tx: &mut PgConnection,
    tenant: &Tenant,
    request: &ListMemories,
    after: Option<Place>,
    now: Timestamp,
) -> Result<(Vec<Row>, bool), sqlx::Error> {
    let limit = request.page().limit() as usize;
    let rows: Vec<Listed> = sqlx::query_as(LIST)
        .bind(tenant.as_str())
        .bind(request.agent.as_ref().map(mesh_types::AgentName::as_str))
        .bind(request.kind.map(MemoryType::as_str))
        .bind(request.scope.map(Scope::as_str))
        .bind(&request.session)
        .bind(&request.user)
        .bind(&request.tag)
        .bind(request.invocation.map(IdExt::to_uuid))
        .bind(request.superseded)
        .bind(now.to_chrono())
        .bind(after.map(|place| place.created_at.to_chrono()))
        .bind(after.map(|place| place.id.to_uuid()))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1))
        .bind(PAGE_BYTES_MAX)
        .fetch_all(tx)
        .await?;
    let found = rows
        .first()
        .map_or(0, |first| usize::try_from(first.found).unwrap_or(0));
    let rows: Vec<Row> = rows.into_iter().take(limit).map(|listed| listed.row).collect();
    let more = found > rows.len();
    Ok((rows, more))
}

const IS_FORGOTTEN: &str = "SELECT EXISTS (SELECT FROM memory.forgotten WHERE tenant = $1 AND memory = $2)";

pub(crate) async fn is_forgotten(tx: &mut PgConnection, tenant: &Tenant, id: MemoryId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(IS_FORGOTTEN)
        .bind(tenant.as_str())
        .bind(id.to_uuid())
        .fetch_one(tx)
        .await
}
