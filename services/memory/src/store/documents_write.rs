//! New documents and new versions of them, piece by piece; deletions.

use mesh_store::IdExt;
use mesh_types::{ChunkId, DocumentId, Tenant, Timestamp};
use sqlx::PgConnection;
use uuid::Uuid;

use super::documents::{Hold, named};
use super::embed_queue;
use crate::knowledge::{Diff, Piece, diff};

/// A document that was read, as it is stored.
pub(crate) struct NewDocument<'a> {
    /// Of a document that is not there yet.
    pub(crate) id: DocumentId,
    pub(crate) base: &'a str,
    pub(crate) owner: &'a str,
    pub(crate) name: &'a str,
    pub(crate) media_type: &'static str,
    pub(crate) url: Option<&'a str>,
    pub(crate) sha256: &'a [u8; 32],
    pub(crate) bytes: i64,
    pub(crate) body: &'a str,
    /// With the ids of those that are not there yet.
    pub(crate) pieces: &'a [(ChunkId, Piece)],
    pub(crate) at: Timestamp,
    pub(crate) by: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// Another request stored the same meanwhile.
    Same(DocumentId),
    New {
        id: DocumentId,
        version: u32,
    },
}

const LOCK: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended(concat_ws(E'\\n', 'knowledge', $1, $2, $3), 0))::text";

/// Stores the document as its name's next version. Pieces that are in the version before stay, with their vectors; the
/// new ones wait for theirs.
pub(crate) async fn put(tx: &mut PgConnection, tenant: &Tenant, new: &NewDocument<'_>) -> Result<Put, sqlx::Error> {
    sqlx::query(LOCK)
        .bind(tenant.as_str())
        .bind(new.base)
        .bind(new.name)
        .execute(&mut *tx)
        .await?;
    let known = named(tx, tenant, new.base, new.name, Hold::ToChange).await?;
    if let Some(known) = known.as_ref().filter(|known| known.is_same(new.sha256, new.media_type)) {
        return Ok(Put::Same(known.id()));
    }
    let (id, version) = known.map_or((new.id.to_uuid(), 1), |known| (known.id().to_uuid(), known.version + 1));
    let old = if version > 1 {
        old_pieces(tx, tenant, id).await?
    } else {
        Vec::new()
    };
    let hashes: Vec<Vec<u8>> = new.pieces.iter().map(|(_, piece)| piece.hash.to_vec()).collect();
    let Diff { taken, gone } = diff(old, &hashes);
    let kept = taken.iter().flatten().count();
    put_document(tx, tenant, new, id, version, i32::try_from(kept).unwrap_or(i32::MAX)).await?;
    let pieces = || new.pieces.iter().zip(&taken).zip(0..);
    let moved = pieces().filter_map(|(((_, piece), taken), number)| taken.map(|id| (id, piece, number)));
    let added = pieces().filter_map(|(((id, piece), taken), number)| match taken {
        None => Some((id.to_uuid(), piece, number)),
        Some(_) => None,
    });
    delete_pieces(tx, tenant, gone).await?;
    move_pieces(tx, tenant, Columns::of(moved)).await?;
    add_pieces(tx, tenant, id, new, Columns::of(added)).await?;
    Ok(Put::New {
        id: IdExt::from_uuid(id),
        version: version.unsigned_abs(),
    })
}

const OLD: &str = "SELECT id, content_hash FROM memory.chunk WHERE tenant = $1 AND document = $2 ORDER BY number";

async fn old_pieces(tx: &mut PgConnection, tenant: &Tenant, id: Uuid) -> Result<Vec<(Uuid, Vec<u8>)>, sqlx::Error> {
    sqlx::query_as(OLD).bind(tenant.as_str()).bind(id).fetch_all(tx).await
}

const PUT: &str = "
    WITH of_tenant AS (
        INSERT INTO memory.tenant (tenant) VALUES ($1) ON CONFLICT DO NOTHING
    ), stored AS (
        INSERT INTO memory.document (tenant, id, base, name, media_type, url, version, sha256, bytes, body, kept,
            created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)
        ON CONFLICT (tenant, id) DO UPDATE SET media_type = excluded.media_type, url = excluded.url,
            version = excluded.version, sha256 = excluded.sha256, bytes = excluded.bytes, body = excluded.body,
            kept = excluded.kept, updated_at = excluded.updated_at
    )
    INSERT INTO memory.document_version (tenant, document, version, sha256, bytes, at, by)
    VALUES ($1, $2, $7, $8, $9, $12, $13)";

async fn put_document(
    tx: &mut PgConnection,
    tenant: &Tenant,
    new: &NewDocument<'_>,
    id: Uuid,
    version: i32,
    kept: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query(PUT)
        .bind(tenant.as_str())
        .bind(id)
        .bind(new.base)
        .bind(new.name)
        .bind(new.media_type)
        .bind(new.url)
        .bind(version)
        .bind(new.sha256.as_slice())
        .bind(new.bytes)
        .bind(new.body)
        .bind(kept)
        .bind(new.at.to_chrono())
        .bind(new.by)
        .execute(tx)
        .await
        .map(|_| ())
}

/// Pieces, column by column.
#[derive(Default)]
struct Columns<'a> {
    ids: Vec<Uuid>,
    numbers: Vec<i32>,
    /// Each a JSON list: Postgres has no lists of lists of different lengths.
    headings: Vec<String>,
    starts: Vec<i32>,
    ends: Vec<i32>,
    contents: Vec<&'a str>,
    hashes: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    fn of(pieces: impl Iterator<Item = (Uuid, &'a Piece, i32)>) -> Self {
        let mut columns = Self::default();
        for (id, piece, number) in pieces {
            columns.ids.push(id);
            columns.numbers.push(number);
            columns
                .headings
                .push(serde_json::Value::from(piece.headings.clone()).to_string());
            columns.starts.push(piece.start.cast_signed());
            columns.ends.push(piece.end.cast_signed());
            columns.contents.push(&piece.content);
            columns.hashes.push(&piece.hash);
        }
        columns
    }
}

const DELETE_PIECES: &str = "DELETE FROM memory.chunk WHERE tenant = $1 AND id = ANY($2)";

async fn delete_pieces(tx: &mut PgConnection, tenant: &Tenant, gone: Vec<Uuid>) -> Result<(), sqlx::Error> {
    if gone.is_empty() {
        return Ok(());
    }
    sqlx::query(DELETE_PIECES)
        .bind(tenant.as_str())
        .bind(gone)
        .execute(tx)
        .await
        .map(|_| ())
}

const MOVE_PIECES: &str = "
    UPDATE memory.chunk AS c SET number = p.number, headings = p.headings, start_at = p.start_at, end_at = p.end_at
    FROM (
        SELECT id, number, ARRAY(SELECT jsonb_array_elements_text(headings::jsonb)) AS headings, start_at, end_at
        FROM unnest($2::uuid[], $3::integer[], $4::text[], $5::integer[], $6::integer[])
            AS p (id, number, headings, start_at, end_at)
    ) AS p
    WHERE c.tenant = $1 AND c.id = p.id
        AND (c.number, c.headings, c.start_at, c.end_at) IS DISTINCT FROM (p.number, p.headings, p.start_at, p.end_at)";

async fn move_pieces(tx: &mut PgConnection, tenant: &Tenant, pieces: Columns<'_>) -> Result<(), sqlx::Error> {
    if pieces.ids.is_empty() {
        return Ok(());
    }
    sqlx::query(MOVE_PIECES)
        .bind(tenant.as_str())
        .bind(pieces.ids)
        .bind(pieces.numbers)
        .bind(pieces.headings)
        .bind(pieces.starts)
        .bind(pieces.ends)
        .execute(tx)
        .await
        .map(|_| ())
}

const ADD_PIECES: &str = "
    INSERT INTO memory.chunk (tenant, id, document, owner, number, headings, start_at, end_at, content, content_hash)
    SELECT $1, p.id, $8, $9, p.number, ARRAY(SELECT jsonb_array_elements_text(p.headings::jsonb)), p.start_at,
        p.end_at, p.content, p.content_hash
    FROM unnest($2::uuid[], $3::integer[], $4::text[], $5::integer[], $6::integer[], $7::text[], $10::bytea[])
        AS p (id, number, headings, start_at, end_at, content, content_hash)";

async fn add_pieces(
    tx: &mut PgConnection,
    tenant: &Tenant,
    document: Uuid,
    new: &NewDocument<'_>,
    pieces: Columns<'_>,
) -> Result<(), sqlx::Error> {
    if pieces.ids.is_empty() {
        return Ok(());
    }
    let ids: Vec<ChunkId> = pieces.ids.iter().map(|id| IdExt::from_uuid(*id)).collect();
    sqlx::query(ADD_PIECES)
        .bind(tenant.as_str())
        .bind(pieces.ids)
        .bind(pieces.numbers)
        .bind(pieces.headings)
        .bind(pieces.starts)
        .bind(pieces.ends)
        .bind(pieces.contents)
        .bind(document)
        .bind(new.owner)
        .bind(pieces.hashes)
        .execute(&mut *tx)
        .await?;
    embed_queue::put_chunks(tx, tenant, &ids, new.at).await
}

// Counted before the deletion takes them along: one statement sees the rows as they were.
const DELETE: &str = "
    WITH pieces AS (SELECT count(*) AS count FROM memory.chunk WHERE tenant = $1 AND document = $2)
    DELETE FROM memory.document AS d USING pieces WHERE d.tenant = $1 AND d.id = $2 RETURNING d.base, pieces.count";

/// With its versions, pieces and vectors. The collection it was in, and how many pieces it had; `None` if it is not
/// there.
pub(crate) async fn delete(
    tx: &mut PgConnection,
    tenant: &Tenant,
    id: DocumentId,
) -> Result<Option<(String, i64)>, sqlx::Error> {
    sqlx::query_as(DELETE)
        .bind(tenant.as_str())
        .bind(id.to_uuid())
        .fetch_optional(tx)
        .await
}
