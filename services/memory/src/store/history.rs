//! Changes of a memory, and what it was before each.

use chrono::{DateTime, Utc};
use mesh_api::memory::Revision;
use mesh_store::IdExt;
use mesh_types::{MemoryId, Tenant, Timestamp};
use sqlx::PgConnection;

use super::memories::PAGE_BYTES_MAX;
use super::{Row, columns};

const LOCK: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM memory.memory AS m WHERE m.tenant = $1 AND m.id = coalesce(
        (SELECT a.memory FROM memory.alias AS a WHERE a.tenant = $1 AND a.id = $2), $2)
    AND (m.expires_at IS NULL OR m.expires_at > $3) FOR UPDATE OF m"
);

/// As `memories::get`; nobody else changes it before the end of the transaction.
pub(crate) async fn lock(
    tx: &mut PgConnection,
    tenant: &Tenant,
    id: MemoryId,
    now: Timestamp,
) -> Result<Option<Row>, sqlx::Error> {
    sqlx::query_as(LOCK)
        .bind(tenant.as_str())
        .bind(id.to_uuid())
        .bind(now.to_chrono())
        .fetch_optional(tx)
        .await
}

/// What a memory becomes, whole.
#[derive(Debug)]
pub(crate) struct Changed<'a> {
    pub(crate) content: &'a str,
    pub(crate) content_hash: [u8; 32],
    pub(crate) tags: &'a [String],
    pub(crate) importance: f64,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) at: Timestamp,
    pub(crate) by: &'a str,
}

const CHANGE: &str = concat!(
    "WITH before AS (
        INSERT INTO memory.revision (tenant, memory, version, content, tags, importance, changed_at, changed_by)
        SELECT m.tenant, m.id, m.version, m.content, m.tags, m.importance, $8, $9 FROM memory.memory AS m
        WHERE m.tenant = $1 AND m.id = $2
    )
    UPDATE memory.memory AS m SET content = $3, content_hash = $4, tags = $5, importance = $6, expires_at = $7,
        updated_at = $8, version = m.version + 1
    WHERE m.tenant = $1 AND m.id = $2
    RETURNING ",
    columns!()
);

/// Changes the locked row and keeps what it was.
pub(crate) async fn change(
    tx: &mut PgConnection,
    tenant: &Tenant,
    id: MemoryId,
    changed: &Changed<'_>,
) -> Result<Row, sqlx::Error> {
    let row = sqlx::query_as(CHANGE)
        .bind(tenant.as_str())
        .bind(id.to_uuid())
        .bind(changed.content)
        .bind(changed.content_hash.as_slice())
        .bind(changed.tags)
        .bind(changed.importance)
        .bind(changed.expires_at.map(Timestamp::to_chrono))
        .bind(changed.at.to_chrono())
        .bind(changed.by)
        .fetch_one(&mut *tx)
        .await?;
    super::expiry::follow(tx, tenant, id).await?;
    Ok(row)
}

/// Revisions of one answer.
const REVISIONS_MAX: i64 = 500;

const REVISIONS: &str = "SELECT version, content, tags, importance, changed_at, changed_by FROM (
        SELECT r.*, sum(octet_length(r.content)) OVER (ORDER BY r.version DESC) - octet_length(r.content) AS newer
        FROM memory.revision AS r WHERE r.tenant = $1 AND r.memory = $2
        ORDER BY r.version DESC LIMIT $3
    ) AS newest
    WHERE newer < $4 ORDER BY version DESC";

type RevisionRow = (i32, String, Vec<String>, f64, DateTime<Utc>, String);

/// Newest first, as many as one answer holds.
pub(crate) async fn revisions(
    tx: &mut PgConnection,
    tenant: &Tenant,
    id: MemoryId,
) -> Result<Vec<Revision>, sqlx::Error> {
    let rows: Vec<RevisionRow> = sqlx::query_as(REVISIONS)
        .bind(tenant.as_str())
        .bind(id.to_uuid())
        .bind(REVISIONS_MAX)
        .bind(PAGE_BYTES_MAX)
        .fetch_all(tx)
        .await?;
    let revision = |(version, content, tags, importance, changed_at, changed_by): RevisionRow| Revision {
        version: version.unsigned_abs(),
        content,
        tags,
        importance,
        changed_at: changed_at.into(),
        changed_by,
    };
    Ok(rows.into_iter().map(revision).collect())
}
