//! Which texts lack a vector of the current model, which vectors are of another one, and how far each tenant is.

use std::collections::BTreeMap;

use mesh_store::{every_tenant_tx, tenant_tx};
use mesh_types::{Tenant, Timestamp};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::vectors::by_dimensions;
use crate::embed::{Dimensions, Model};

/// A tenant, and the model that all of its texts had vectors of when it was looked at last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Embedded {
    pub(crate) tenant: Tenant,
    pub(crate) with: Option<String>,
}

/// All that have texts.
pub(crate) async fn tenants(pool: &PgPool) -> Result<Vec<Embedded>, sqlx::Error> {
    let mut tx = every_tenant_tx(pool).await?;
    let rows: Vec<(String, Option<String>)> =
        sqlx::query_as("SELECT tenant, embedded_with FROM memory.tenant ORDER BY tenant")
            .fetch_all(&mut *tx)
            .await?;
    tx.commit().await?;
    let embedded = |(tenant, with): (String, Option<String>)| {
        let tenant = tenant.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Embedded { tenant, with })
    };
    rows.into_iter().map(embedded).collect()
}

const MARK: &str = "UPDATE memory.tenant SET embedded_with = $2 WHERE tenant = $1";
/// What the model before refused, the current one may take.
const RETRY_REFUSED: &str = "UPDATE memory.embed_queue SET attempts = 0, next_at = $2, error = NULL
    WHERE tenant = $1 AND next_at = 'infinity'";

/// From here on the tenant's texts have vectors of several models.
pub(crate) async fn open(pool: &PgPool, tenant: &Tenant, now: Timestamp) -> Result<(), sqlx::Error> {
    let mut tx = tenant_tx(pool, tenant).await?;
    sqlx::query(MARK)
        .bind(tenant.as_str())
        .bind(None::<&str>)
        .execute(&mut *tx)
        .await?;
    sqlx::query(RETRY_REFUSED)
        .bind(tenant.as_str())
        .bind(now.to_chrono())
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

/// All of the tenant's texts have vectors of that model.
pub(crate) async fn close(pool: &PgPool, tenant: &Tenant, model: &Model) -> Result<(), sqlx::Error> {
    let mut tx = tenant_tx(pool, tenant).await?;
    sqlx::query(MARK)
        .bind(tenant.as_str())
        .bind(&*model.name)
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

/// What has a table of texts and one of vectors for each number of dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Chunk,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Memory, Self::Chunk];
}

/// $1 tenant, $2 after which id, $3 model, $4 how many, $5 when they are due.
macro_rules! queue_lacking {
    ($item:literal, $dimensions:expr, $also:literal) => {
        by_dimensions!(
            $dimensions,
            concat!(
                "WITH lacking AS MATERIALIZED (
                    SELECT t.id FROM memory.",
                $item,
                " AS t WHERE t.tenant = $1 AND t.id > $2 AND NOT EXISTS (SELECT FROM memory.",
                $item,
                "_vector_"
            ),
            concat!(
                " AS v WHERE v.tenant = t.tenant AND v.item = t.id AND v.model = $3)",
                $also,
                // Locked: what is replaced or forgotten meanwhile would stay in the queue for ever.
                " ORDER BY t.id LIMIT $4 FOR SHARE OF t
                ), queued AS (
                    INSERT INTO memory.embed_queue (tenant, ",
                $item,
                ", next_at) SELECT $1, id, $5 FROM lacking ON CONFLICT DO NOTHING RETURNING 1
                )
                SELECT count(*), (SELECT count(*) FROM queued), (SELECT id FROM lacking ORDER BY id DESC LIMIT 1)
                FROM lacking"
            )
        )
    };
}

const fn queue_lacking_statement(kind: Kind, dimensions: Dimensions) -> &'static str {
    match kind {
        Kind::Memory => queue_lacking!("memory", dimensions, " AND t.superseded_by IS NULL"),
        Kind::Chunk => queue_lacking!("chunk", dimensions, ""),
    }
}

/// Texts of one transaction of [`queue_lacking`].
const PAGE: i64 = 1_000;

/// Queues what has no vector of that model; how many were not in the queue before. One short transaction a page.
pub(crate) async fn queue_lacking(
    pool: &PgPool,
    tenant: &Tenant,
    model: &Model,
    now: Timestamp,
) -> Result<u64, sqlx::Error> {
    let mut added = 0;
    for kind in Kind::ALL {
        let statement = queue_lacking_statement(kind, model.dimensions);
        let mut after = Uuid::nil();
        loop {
            let mut tx = tenant_tx(pool, tenant).await?;
            let (lacking, queued, last): (i64, i64, Option<Uuid>) = sqlx::query_as(statement)
                .bind(tenant.as_str())
                .bind(after)
                .bind(&*model.name)
                .bind(PAGE)
                .bind(now.to_chrono())
                .fetch_one(&mut *tx)
                .await?;
            tx.commit().await?;
            added += queued.unsigned_abs();
            match last {
                Some(last) if lacking == PAGE => after = last,
                _ => break,
            }
        }
    }
    Ok(added)
}

const IS_WAITING: &str =
    "SELECT EXISTS (SELECT FROM memory.embed_queue WHERE tenant = $1 AND next_at < 'infinity'::timestamptz)";

/// Whether any of the tenant's texts waits for a vector that can still come.
pub(crate) async fn is_waiting(pool: &PgPool, tenant: &Tenant) -> Result<bool, sqlx::Error> {
    let mut tx = tenant_tx(pool, tenant).await?;
    let is_waiting = sqlx::query_scalar(IS_WAITING)
        .bind(tenant.as_str())
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(is_waiting)
}

/// `$after` follows the table of vectors.
macro_rules! of_vectors {
    ($before:literal, $kind:expr, $dimensions:expr, $after:literal) => {
        match $kind {
            Kind::Memory => by_dimensions!($dimensions, concat!($before, "memory.memory_vector_"), $after),
            Kind::Chunk => by_dimensions!($dimensions, concat!($before, "memory.chunk_vector_"), $after),
        }
    };
}

const fn drop_statement(kind: Kind, dimensions: Dimensions) -> &'static str {
    of_vectors!(
        "DELETE FROM ",
        kind,
        dimensions,
        " WHERE tenant = $1 AND model IS DISTINCT FROM $2"
    )
}

/// Drops the tenant's vectors of all other models; how many there were. A transaction for each table.
pub(crate) async fn drop_others(pool: &PgPool, tenant: &Tenant, model: &Model) -> Result<u64, sqlx::Error> {
    let mut dropped = 0;
    for kind in Kind::ALL {
        for dimensions in Dimensions::ALL {
            // A model of this name that gives vectors of another length is another model.
            let kept = (dimensions == model.dimensions).then_some(&*model.name);
            let mut tx = tenant_tx(pool, tenant).await?;
            let done = sqlx::query(drop_statement(kind, dimensions))
                .bind(tenant.as_str())
                .bind(kept)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            dropped += done.rows_affected();
        }
    }
    Ok(dropped)
}

const fn count_statement(kind: Kind, dimensions: Dimensions) -> &'static str {
    of_vectors!(
        "SELECT model, count(*) FROM ",
        kind,
        dimensions,
        " WHERE tenant = $1 GROUP BY model"
    )
}

/// How many vectors of which models the tenant has, of memories and of pieces together.
pub(crate) async fn models(
    tx: &mut PgConnection,
    tenant: &Tenant,
) -> Result<BTreeMap<(String, Dimensions), u64>, sqlx::Error> {
    let mut models = BTreeMap::new();
    for kind in Kind::ALL {
        for dimensions in Dimensions::ALL {
            let rows: Vec<(String, i64)> = sqlx::query_as(count_statement(kind, dimensions))
                .bind(tenant.as_str())
                .fetch_all(&mut *tx)
                .await?;
            for (model, count) in rows {
                *models.entry((model, dimensions)).or_insert(0) += count.unsigned_abs();
            }
        }
    }
    Ok(models)
}

const EMBEDDABLE: &str = "SELECT
    (SELECT count(*) FROM memory.memory WHERE tenant = $1 AND superseded_by IS NULL)
    + (SELECT count(*) FROM memory.chunk WHERE tenant = $1)
    - (SELECT count(*) FROM memory.embed_queue WHERE tenant = $1 AND next_at = 'infinity')";

/// Texts of the tenant that can have a vector.
pub(crate) async fn embeddable(tx: &mut PgConnection, tenant: &Tenant) -> Result<u64, sqlx::Error> {
    let count: i64 = sqlx::query_scalar(EMBEDDABLE)
        .bind(tenant.as_str())
        .fetch_one(tx)
        .await?;
    Ok(count.unsigned_abs())
}
