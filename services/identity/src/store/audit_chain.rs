//! The chain's side of table `identity.audit`, and table `identity.audit_chain`.

use mesh_store::IdExt;
use mesh_types::event::Event;
use mesh_types::{EventId, Timestamp};
use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::audit::chain::{Chained, Hash, ORIGIN, Row};

const COLUMNS: &str = "id, tenant, at, actor, action, subject, outcome, reason, before, after, request_id, seq, hash";

/// Head and base of one tenant's chain.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct Ends {
    pub(crate) seq: i64,
    pub(crate) hash: Vec<u8>,
    pub(crate) base_seq: i64,
    pub(crate) base_hash: Vec<u8>,
}

#[derive(Debug, FromRow)]
struct FactRow {
    id: Uuid,
    tenant: String,
    at: DateTime<Utc>,
    actor: String,
    action: String,
    subject: String,
    outcome: String,
    reason: String,
    before: String,
    after: String,
    request_id: Option<String>,
    seq: Option<i64>,
    hash: Option<Vec<u8>>,
}

impl FactRow {
    fn split(self) -> Chained {
        Chained {
            seq: self.seq.unwrap_or_default(),
            hash: self.hash.unwrap_or_default(),
            row: Row {
                id: EventId::from_uuid(self.id).to_string(),
                tenant: self.tenant,
                at_micros: self.at.timestamp_micros(),
                actor: self.actor,
                action: self.action,
                subject: self.subject,
                outcome: self.outcome,
                reason: self.reason,
                before: self.before,
                after: self.after,
                request_id: self.request_id,
            },
        }
    }
}

/// A fact of another service, as its event tells it.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) event: Event,
    /// `agent.updated`.
    pub(crate) action: String,
    pub(crate) subject: String,
}

/// Keeps facts of any tenants; one that is there already stays as it is.
pub(crate) async fn insert_told(db: impl PgExecutor<'_>, told: &[Told]) -> Result<(), sqlx::Error> {
    fn texts(told: &[Told], of: impl Fn(&Told) -> String) -> Vec<String> {
        told.iter().map(of).collect()
    }
    let change = |fact: &Told, of: fn(&mesh_types::event::Change) -> &serde_json::Value| {
        fact.event
            .change
            .as_deref()
            .map_or_else(|| "null".to_owned(), |change| of(change).to_string())
    };
    sqlx::query(
        "INSERT INTO identity.audit (id, tenant, at, actor, action, subject, outcome, reason, before, after, request_id) \
         SELECT id, tenant, at, actor, action, subject, 'done', '', before, after, request_id \
         FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[], \
           $8::text[], $9::text[]) \
           AS told(id, tenant, at, actor, action, subject, before, after, request_id) \
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(told.iter().map(|fact| fact.event.id.to_uuid()).collect::<Vec<_>>())
    .bind(texts(told, |fact| fact.event.tenant.to_string()))
    .bind(told.iter().map(|fact| fact.event.at.to_chrono()).collect::<Vec<_>>())
    .bind(texts(told, |fact| fact.event.actor.clone()))
    .bind(texts(told, |fact| fact.action.clone()))
    .bind(texts(told, |fact| fact.subject.clone()))
    .bind(texts(told, |fact| change(fact, |change| &change.before)))
    .bind(texts(told, |fact| change(fact, |change| &change.after)))
    .bind(
        told.iter()
            .map(|fact| fact.event.request_id.map(|id| id.to_string()))
            .collect::<Vec<Option<String>>>(),
    )
    .execute(db)
    .await
    .map(drop)
}

/// Tenants with facts that are not chained yet.
pub(crate) async fn unchained_tenants(db: impl PgExecutor<'_>) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT DISTINCT tenant FROM identity.audit WHERE seq IS NULL")
        .fetch_all(db)
        .await
}

/// The tenant's ends; whoever else chains waits until this transaction is over.
pub(crate) async fn lock(tx: &mut PgConnection, tenant: &str) -> Result<Ends, sqlx::Error> {
    sqlx::query(
        "INSERT INTO identity.audit_chain (tenant, seq, hash, base_hash) VALUES ($1, 0, $2, $2) ON CONFLICT DO NOTHING",
    )
    .bind(tenant)
    .bind(ORIGIN.as_slice())
    .execute(&mut *tx)
    .await?;
    sqlx::query_as("SELECT seq, hash, base_seq, base_hash FROM identity.audit_chain WHERE tenant = $1 FOR UPDATE")
        .bind(tenant)
        .fetch_one(tx)
        .await
}

/// The oldest facts that are not chained.
pub(crate) async fn unchained(db: impl PgExecutor<'_>, tenant: &str, limit: i64) -> Result<Vec<Chained>, sqlx::Error> {
    let query = format!("SELECT {COLUMNS} FROM identity.audit WHERE tenant = $1 AND seq IS NULL ORDER BY id LIMIT $2");
    let rows: Vec<FactRow> = sqlx::query_as(sqlx::AssertSqlSafe(query))
        .bind(tenant)
        .bind(limit)
        .fetch_all(db)
        .await?;
    Ok(rows.into_iter().map(FactRow::split).collect())
}

/// Facts after a place, in order.
pub(crate) async fn chained(
    db: impl PgExecutor<'_>,
    tenant: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<Chained>, sqlx::Error> {
    let query = format!("SELECT {COLUMNS} FROM identity.audit WHERE tenant = $1 AND seq > $2 ORDER BY seq LIMIT $3");
    let rows: Vec<FactRow> = sqlx::query_as(sqlx::AssertSqlSafe(query))
        .bind(tenant)
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await?;
    Ok(rows.into_iter().map(FactRow::split).collect())
}

/// Gives facts their places, and the chain its new head.
pub(crate) async fn link(
    tx: &mut PgConnection,
    tenant: &str,
    links: &[(EventId, i64, Hash)],
) -> Result<(), sqlx::Error> {
    let Some((_, head_seq, head)) = links.last() else {
        return Ok(());
    };
    sqlx::query(
        "UPDATE identity.audit AS a SET seq = l.seq, hash = l.hash \
         FROM unnest($1::uuid[], $2::int8[], $3::bytea[]) AS l(id, seq, hash) WHERE a.id = l.id",
    )
    .bind(links.iter().map(|(id, ..)| id.to_uuid()).collect::<Vec<_>>())
    .bind(links.iter().map(|(_, seq, _)| *seq).collect::<Vec<_>>())
    .bind(links.iter().map(|(_, _, hash)| hash.to_vec()).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    sqlx::query("UPDATE identity.audit_chain SET seq = $2, hash = $3 WHERE tenant = $1")
        .bind(tenant)
        .bind(head_seq)
        .bind(head.as_slice())
        .execute(tx)
        .await
        .map(drop)
}

/// Deletes the chain's facts up to the first one that is not older, at most so many of each tenant; its base moves along.
pub(crate) async fn prune(tx: &mut PgConnection, before: Timestamp, limit: i64) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "WITH cut AS ( \
           SELECT c.tenant, least(c.base_seq + $2, coalesce( \
             (SELECT min(a.seq) - 1 FROM identity.audit a WHERE a.tenant = c.tenant AND a.at >= $1), c.seq)) AS upto \
           FROM identity.audit_chain c FOR UPDATE \
         ), moved AS ( \
           UPDATE identity.audit_chain c SET base_seq = a.seq, base_hash = a.hash \
           FROM cut JOIN identity.audit a ON a.tenant = cut.tenant AND a.seq = cut.upto \
           WHERE c.tenant = cut.tenant AND cut.upto > c.base_seq RETURNING c.tenant, c.base_seq \
         ) \
         DELETE FROM identity.audit a USING moved WHERE a.tenant = moved.tenant AND a.seq <= moved.base_seq",
    )
    .bind(before.to_chrono())
    .bind(limit)
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

pub(crate) async fn count_unchained(db: impl PgExecutor<'_>, tenant: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM identity.audit WHERE tenant = $1 AND seq IS NULL")
        .bind(tenant)
        .fetch_one(db)
        .await
}
