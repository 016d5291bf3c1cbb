//! Erasures by filter: what each takes is listed first, taken batch by batch, and attested by a receipt in the end.

use chrono::{DateTime, Utc};
use mesh_api::memory::{ForgetFilter, MemoryType, Receipt, Scope};
use mesh_store::{IdExt, every_tenant_tx, tenant_tx};
use mesh_types::{Id as _, MemoryId, ReceiptId, Tenant, Timestamp};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::erase::Gone;
use crate::same::lock_key;

/// What was asked for, but its filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Erasure {
    pub(crate) id: ReceiptId,
    pub(crate) body_hash: [u8; 32],
    pub(crate) keep_derived: bool,
    pub(crate) at: Timestamp,
    pub(crate) by: String,
}

/// A transaction of the tenant in which nobody else works on this erasure.
pub(crate) async fn begin(
    pool: &PgPool,
    tenant: &Tenant,
    id: ReceiptId,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut tx = tenant_tx(pool, tenant).await?;
    let key = lock_key(&[tenant.as_str().as_bytes(), b"erasure", &id.as_u128().to_be_bytes()]);
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(key)
        .execute(&mut *tx)
        .await?;
    Ok(tx)
}

type ReceiptRow = (Vec<u8>, i64, i64, String, DateTime<Utc>, String);

const RECEIPT: &str = "SELECT body_hash, forgotten, derived, ids_sha256, at, by FROM memory.receipt
    WHERE tenant = $1 AND id = $2";

/// The receipt with the hash of the request that it is of.
pub(crate) async fn receipt(
    tx: &mut PgConnection,
    tenant: &Tenant,
    id: ReceiptId,
) -> Result<Option<(Receipt, Vec<u8>)>, sqlx::Error> {
    let row: Option<ReceiptRow> = sqlx::query_as(RECEIPT)
        .bind(tenant.as_str())
        .bind(id.to_uuid())
        .fetch_optional(tx)
        .await?;
    Ok(row.map(|(body_hash, forgotten, derived, ids_sha256, at, by)| {
        let receipt = Receipt {
            id,
            forgotten: forgotten.unsigned_abs(),
            derived: derived.unsigned_abs(),
            ids_sha256,
            at: at.into(),
            by,
            dry_run: false,
        };
        (receipt, body_hash)
    }))
}

type ErasureRow = (Vec<u8>, bool, DateTime<Utc>, String);

/// One that was begun and has no receipt yet.
pub(crate) async fn get(tx: &mut PgConnection, tenant: &Tenant, id: ReceiptId) -> Result<Option<Erasure>, sqlx::Error> {
    let row: Option<ErasureRow> =
        sqlx::query_as("SELECT body_hash, keep_derived, at, by FROM memory.erasure WHERE tenant = $1 AND id = $2")
            .bind(tenant.as_str())
            .bind(id.to_uuid())
            .fetch_optional(tx)
            .await?;
    let Some((body_hash, keep_derived, at, by)) = row else {
        return Ok(None);
    };
    let body_hash = body_hash
        .try_into()
        .map_err(|_| sqlx::Error::Decode("a hash of an erasure is not of 32 bytes".into()))?;
    Ok(Some(Erasure {
        id,
        body_hash,
        keep_derived,
        at: at.into(),
        by,
    }))
}

const ADD: &str =
    "INSERT INTO memory.erasure (tenant, id, body_hash, keep_derived, at, by) VALUES ($1, $2, $3, $4, $5, $6)";

const MATCH: &str = "WITH RECURSIVE matched AS (
        SELECT m.id FROM memory.memory AS m
        WHERE m.tenant = $1
            AND ($3::uuid[] IS NULL OR m.id = ANY($3)
                OR m.id IN (SELECT a.memory FROM memory.alias AS a WHERE a.tenant = $1 AND a.id = ANY($3)))
            AND ($4::text IS NULL OR m.agent = $4) AND ($5::text IS NULL OR m.kind = $5)
            AND ($6::text IS NULL OR m.scope = $6) AND ($7::text IS NULL OR m.session = $7)
            AND ($8::text IS NULL OR m.user_id = $8) AND m.tags @> $9::text[]
            AND ($10::uuid IS NULL OR m.source_invocation = $10
                OR m.id IN (SELECT a.memory FROM memory.alias AS a WHERE a.tenant = $1 AND a.source_invocation = $10))
            AND ($11::timestamptz IS NULL OR m.created_at < $11)
    ), whole AS (
        SELECT id FROM matched
        UNION SELECT m.id FROM memory.memory AS m JOIN whole ON m.superseded_by = whole.id WHERE m.tenant = $1
    )
    INSERT INTO memory.erasure_item (tenant, erasure, memory, agent, is_derived)
    SELECT $1, $2, m.id, m.agent, false FROM whole JOIN memory.memory AS m ON m.tenant = $1 AND m.id = whole.id";

/// Lists what matches, superseded ones and what they replaced included, and what was made of it.
pub(crate) async fn plan(
    tx: &mut PgConnection,
    tenant: &Tenant,
    erasure: &Erasure,
    filter: &ForgetFilter,
) -> Result<(), sqlx::Error> {
    sqlx::query(ADD)
        .bind(tenant.as_str())
        .bind(erasure.id.to_uuid())
        .bind(erasure.body_hash.as_slice())
        .bind(erasure.keep_derived)
        .bind(erasure.at.to_chrono())
        .bind(&erasure.by)
        .execute(&mut *tx)
        .await?;
    let ids: Vec<Uuid> = filter.ids.iter().map(|id| id.to_uuid()).collect();
    sqlx::query(MATCH)
        .bind(tenant.as_str())
        .bind(erasure.id.to_uuid())
        .bind((!ids.is_empty()).then_some(ids))
        .bind(filter.agent.as_ref().map(mesh_types::AgentName::as_str))
        .bind(filter.kind.map(MemoryType::as_str))
        .bind(filter.scope.map(Scope::as_str))
        .bind(&filter.session)
        .bind(&filter.user)
        .bind(&filter.tags)
        .bind(filter.invocation.map(IdExt::to_uuid))
        .bind(filter.before.map(Timestamp::to_chrono))
        .execute(&mut *tx)
        .await?;
    add_derived(tx, tenant, erasure).await
}

const ADD_DERIVED: &str = "WITH RECURSIVE made AS (
        SELECT d.memory FROM memory.erasure_item AS i
        JOIN memory.derived AS d ON d.tenant = $1 AND d.source = i.memory
        WHERE i.tenant = $1 AND i.erasure = $2
        UNION SELECT d.memory FROM memory.derived AS d JOIN made ON d.source = made.memory WHERE d.tenant = $1
    )
    INSERT INTO memory.erasure_item (tenant, erasure, memory, agent, is_derived)
    SELECT $1, $2, m.id, m.agent, true FROM made JOIN memory.memory AS m ON m.tenant = $1 AND m.id = made.memory
    ON CONFLICT DO NOTHING";

async fn add_derived(tx: &mut PgConnection, tenant: &Tenant, erasure: &Erasure) -> Result<(), sqlx::Error> {
    if erasure.keep_derived {
        return Ok(());
    }
    sqlx::query(ADD_DERIVED)
        .bind(tenant.as_str())
        .bind(erasure.id.to_uuid())
        .execute(tx)
        .await
        .map(|_| ())
}

const BATCH: &str = "SELECT memory FROM memory.erasure_item
    WHERE tenant = $1 AND erasure = $2 AND NOT is_done ORDER BY memory LIMIT $3";
const LOCK: &str = "SELECT id FROM memory.memory WHERE tenant = $1 AND id = ANY($2) ORDER BY id FOR UPDATE";

/// Up to `count` that are still to be erased, locked; what was made of them meanwhile is listed too.
pub(crate) async fn batch(
    tx: &mut PgConnection,
    tenant: &Tenant,
    erasure: &Erasure,
    count: i64,
) -> Result<Vec<MemoryId>, sqlx::Error> {
    let ids: Vec<Uuid> = sqlx::query_scalar(BATCH)
        .bind(tenant.as_str())
        .bind(erasure.id.to_uuid())
        .bind(count)
        .fetch_all(&mut *tx)
        .await?;
    if !ids.is_empty() {
        sqlx::query(LOCK)
            .bind(tenant.as_str())
            .bind(&ids)
            .execute(&mut *tx)
            .await?;
        add_derived(tx, tenant, erasure).await?;
    }
    Ok(ids.into_iter().map(IdExt::from_uuid).collect())
}

const DONE: &str = "UPDATE memory.erasure_item SET is_done = true
    WHERE tenant = $1 AND erasure = $2 AND memory = ANY($3)";
const NOT_OURS: &str = "DELETE FROM memory.erasure_item
    WHERE tenant = $1 AND erasure = $2 AND memory = ANY($3) AND NOT is_done";

/// Notes which of a batch this erasure took; the others were forgotten by somebody else meanwhile and do not count.
pub(crate) async fn settle(
    tx: &mut PgConnection,
    tenant: &Tenant,
    erasure: &Erasure,
    batch: &[MemoryId],
    gone: &[Gone],
) -> Result<(), sqlx::Error> {
    let gone: Vec<Uuid> = gone.iter().map(|(id, _)| id.to_uuid()).collect();
    let batch: Vec<Uuid> = batch.iter().map(|id| id.to_uuid()).collect();
    for (statement, ids) in [(DONE, gone), (NOT_OURS, batch)] {
        sqlx::query(statement)
            .bind(tenant.as_str())
            .bind(erasure.id.to_uuid())
            .bind(ids)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// Ids read at once for a receipt's digest.
const PAGE: usize = 10_000;
const IDS: &str = "SELECT memory, is_derived FROM memory.erasure_item
    WHERE tenant = $1 AND erasure = $2 AND memory > $3 ORDER BY memory LIMIT $4";

/// The receipt over all that is listed: how many, how many of them derived, and the digest of their ids.
pub(crate) async fn attest(tx: &mut PgConnection, tenant: &Tenant, erasure: &Erasure) -> Result<Receipt, sqlx::Error> {
    let mut digest = Sha256::new();
    let (mut forgotten, mut derived) = (0_u64, 0_u64);
    let mut after = Uuid::nil();
    loop {
        let rows: Vec<(Uuid, bool)> = sqlx::query_as(IDS)
            .bind(tenant.as_str())
            .bind(erasure.id.to_uuid())
            .bind(after)
            .bind(i64::try_from(PAGE).unwrap_or(i64::MAX))
            .fetch_all(&mut *tx)
            .await?;
        for (id, is_derived) in &rows {
            let id: MemoryId = IdExt::from_uuid(*id);
            digest.update(format!("{id}\n"));
            forgotten += 1;
            derived += u64::from(*is_derived);
        }
        match rows.last() {
            Some((last, _)) if rows.len() == PAGE => after = *last,
            _ => break,
        }
    }
    Ok(Receipt {
        id: erasure.id,
        forgotten,
        derived,
        ids_sha256: hex::encode(digest.finalize()),
        at: erasure.at,
        by: erasure.by.clone(),
        dry_run: false,
    })
}

const FIRST: &str = "SELECT memory, agent FROM memory.erasure_item WHERE tenant = $1 AND erasure = $2
    ORDER BY memory LIMIT $3";

/// The first `count` of what was erased, by id.
pub(crate) async fn first(
    tx: &mut PgConnection,
    tenant: &Tenant,
    erasure: &Erasure,
    count: i64,
) -> Result<Vec<Gone>, sqlx::Error> {
    let rows: Vec<(Uuid, String)> = sqlx::query_as(FIRST)
        .bind(tenant.as_str())
        .bind(erasure.id.to_uuid())
        .bind(count)
        .fetch_all(tx)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(id, agent)| (IdExt::from_uuid(id), agent))
        .collect())
}

const CLOSE: &str = "INSERT INTO memory.receipt (tenant, id, body_hash, forgotten, derived, ids_sha256, at, by)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const CLEAR: &str = "DELETE FROM memory.erasure_item WHERE tenant = $1 AND erasure = $2";
const END: &str = "DELETE FROM memory.erasure WHERE tenant = $1 AND id = $2";

/// Keeps the receipt in the place of the erasure and its list.
pub(crate) async fn close(
    tx: &mut PgConnection,
    tenant: &Tenant,
    erasure: &Erasure,
    receipt: &Receipt,
) -> Result<(), sqlx::Error> {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    sqlx::query(CLOSE)
        .bind(tenant.as_str())
        .bind(erasure.id.to_uuid())
        .bind(erasure.body_hash.as_slice())
        .bind(count(receipt.forgotten))
        .bind(count(receipt.derived))
        .bind(&receipt.ids_sha256)
        .bind(receipt.at.to_chrono())
        .bind(&receipt.by)
        .execute(&mut *tx)
        .await?;
    for statement in [CLEAR, END] {
        sqlx::query(statement)
            .bind(tenant.as_str())
            .bind(erasure.id.to_uuid())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

const OPEN: &str = "SELECT tenant, id FROM memory.erasure WHERE at < $1 ORDER BY at LIMIT $2";

/// Up to `count` erasures of any tenant that were begun before, and not ended.
pub(crate) async fn open(
    pool: &PgPool,
    before: Timestamp,
    count: i64,
) -> Result<Vec<(Tenant, ReceiptId)>, sqlx::Error> {
    let mut tx = every_tenant_tx(pool).await?;
    let rows: Vec<(String, Uuid)> = sqlx::query_as(OPEN)
        .bind(before.to_chrono())
        .bind(count)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    let parse = |(tenant, id): (String, Uuid)| {
        let tenant = tenant.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok((tenant, IdExt::from_uuid(id)))
    };
    rows.into_iter().map(parse).collect()
}
