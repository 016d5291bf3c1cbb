//! Documents as they are: how far each is embedded, its text, its pieces. Changes are in `documents_write`.

use chrono::{DateTime, Utc};
use mesh_api::knowledge::{ChunkView, Document, DocumentState};
use mesh_store::IdExt;
use mesh_types::{Code, DocumentId, Problem, Tenant};
use sqlx::PgConnection;
use uuid::Uuid;

use super::vectors::by_dimensions;
use crate::embed::{Dimensions, Model};

#[derive(Debug, sqlx::FromRow)]
pub(crate) struct DocumentRow {
    id: Uuid,
    base: String,
    name: String,
    media_type: String,
    url: Option<String>,
    version: i32,
    sha256: Vec<u8>,
    bytes: i64,
    kept: i32,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    chunks: i64,
    embedded: i64,
    waiting: i64,
    error: Option<String>,
}

impl TryFrom<DocumentRow> for Document {
    type Error = Problem;

    /// Fails only on a row that this service did not write.
    fn try_from(row: DocumentRow) -> Result<Self, Problem> {
        let unreadable = |what: &str| Problem::new(Code::Internal, format!("document {}: unreadable {what}", row.id));
        let count = |count: i64| u32::try_from(count).unwrap_or(u32::MAX);
        // A piece that can have no vector (the embedder refused it) waits for none.
        let is_ready = row.waiting == 0 || row.embedded == row.chunks;
        Ok(Self {
            id: IdExt::from_uuid(row.id),
            base: row.base.parse().map_err(|_| unreadable("collection"))?,
            name: row.name,
            media_type: row.media_type,
            url: row.url,
            version: row.version.unsigned_abs(),
            sha256: hex::encode(&row.sha256),
            bytes: row.bytes.unsigned_abs(),
            state: if is_ready {
                DocumentState::Ready
            } else {
                DocumentState::Embedding
            },
            chunks: count(row.chunks),
            embedded: count(row.embedded),
            kept: row.kept.unsigned_abs(),
            error: row.error.filter(|_| !is_ready),
            created_at: row.created_at.into(),
            updated_at: row.updated_at.into(),
        })
    }
}

/// $1 tenant, $2 the model's name.
macro_rules! documents {
    ($dimensions:expr, $where:literal) => {
        by_dimensions!(
            $dimensions,
            "SELECT d.id, d.base, d.name, d.media_type, d.url, d.version, d.sha256, d.bytes, d.kept, d.created_at,
                d.updated_at, pieces.chunks, pieces.embedded, pieces.waiting, pieces.error
            FROM memory.document AS d CROSS JOIN LATERAL (
                SELECT count(*) AS chunks, count(v.item) AS embedded, count(q.chunk) AS waiting, max(q.error) AS error
                FROM memory.chunk AS c
                LEFT JOIN memory.embed_queue AS q ON q.tenant = c.tenant AND q.chunk = c.id
                LEFT JOIN memory.chunk_vector_",
            concat!(
                " AS v ON v.tenant = c.tenant AND v.item = c.id AND v.model = $2
                WHERE c.tenant = d.tenant AND c.document = d.id
            ) AS pieces
            WHERE d.tenant = $1 AND ",
                $where
            )
        )
    };
}

const fn get_statement(dimensions: Dimensions) -> &'static str {
    documents!(dimensions, "d.id = $3")
}

/// `model` is the one whose vectors count.
pub(crate) async fn get(
    tx: &mut PgConnection,
    tenant: &Tenant,
    model: &Model,
    id: DocumentId,
) -> Result<Option<DocumentRow>, sqlx::Error> {
    sqlx::query_as(get_statement(model.dimensions))
        .bind(tenant.as_str())
        .bind(&*model.name)
        .bind(id.to_uuid())
        .fetch_optional(tx)
        .await
}

const fn list_statement(dimensions: Dimensions) -> &'static str {
    documents!(
        dimensions,
        "($3::text IS NULL OR d.base = $3) AND ($4::uuid IS NULL OR d.id < $4) ORDER BY d.id DESC LIMIT $5"
    )
}

/// Newest first, those before `after`.
pub(crate) async fn list(
    tx: &mut PgConnection,
    tenant: &Tenant,
    model: &Model,
    base: Option<&str>,
    after: Option<DocumentId>,
    limit: u32,
) -> Result<Vec<DocumentRow>, sqlx::Error> {
    sqlx::query_as(list_statement(model.dimensions))
        .bind(tenant.as_str())
        .bind(&*model.name)
        .bind(base)
        .bind(after.map(IdExt::to_uuid))
        .bind(i64::from(limit))
        .fetch_all(tx)
        .await
}

/// What tells whether a document is the same.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Named {
    id: Uuid,
    pub(crate) version: i32,
    sha256: Vec<u8>,
    media_type: String,
}

impl Named {
    pub(crate) fn id(&self) -> DocumentId {
        IdExt::from_uuid(self.id)
    }

    pub(crate) fn is_same(&self, sha256: &[u8; 32], media_type: &str) -> bool {
        self.sha256 == sha256 && self.media_type == media_type
    }
}

macro_rules! named {
    ($lock:literal) => {
        concat!(
            "SELECT id, version, sha256, media_type FROM memory.document WHERE tenant = $1 AND base = $2 AND name = $3",
            $lock
        )
    };
}

/// Whether others may change the document before the transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    No,
    ToChange,
}

pub(crate) async fn named(
    tx: &mut PgConnection,
    tenant: &Tenant,
    base: &str,
    name: &str,
    hold: Hold,
) -> Result<Option<Named>, sqlx::Error> {
    let statement = match hold {
        Hold::No => named!(""),
        Hold::ToChange => named!(" FOR UPDATE"),
    };
    sqlx::query_as(statement)
        .bind(tenant.as_str())
        .bind(base)
        .bind(name)
        .fetch_optional(tx)
        .await
}

const BODY: &str = "SELECT body FROM memory.document WHERE tenant = $1 AND id = $2 FOR SHARE";

/// Held until the transaction ends: what is read after it is of the same version.
pub(crate) async fn body(
    tx: &mut PgConnection,
    tenant: &Tenant,
    id: DocumentId,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(BODY)
        .bind(tenant.as_str())
        .bind(id.to_uuid())
        .fetch_optional(tx)
        .await
}

#[derive(Debug, sqlx::FromRow)]
struct ChunkRow {
    number: i32,
    headings: Vec<String>,
    start_at: i32,
    end_at: i32,
    embedded: bool,
}

const fn chunks_statement(dimensions: Dimensions) -> &'static str {
    by_dimensions!(
        dimensions,
        "SELECT c.number, c.headings, c.start_at, c.end_at, EXISTS (SELECT FROM memory.chunk_vector_",
        " AS v WHERE v.tenant = c.tenant AND v.item = c.id AND v.model = $2) AS embedded
        FROM memory.chunk AS c WHERE c.tenant = $1 AND c.document = $3 ORDER BY c.number"
    )
}

/// In the order of the text.
pub(crate) async fn chunks(
    tx: &mut PgConnection,
    tenant: &Tenant,
    model: &Model,
    id: DocumentId,
) -> Result<Vec<ChunkView>, sqlx::Error> {
    let rows: Vec<ChunkRow> = sqlx::query_as(chunks_statement(model.dimensions))
        .bind(tenant.as_str())
        .bind(&*model.name)
        .bind(id.to_uuid())
        .fetch_all(tx)
        .await?;
    let view = |row: ChunkRow| ChunkView {
        number: row.number.unsigned_abs(),
        headings: row.headings,
        start: row.start_at.unsigned_abs(),
        end: row.end_at.unsigned_abs(),
        embedded: row.embedded,
    };
    Ok(rows.into_iter().map(view).collect())
}
