//! Table `identity.node_secret`.

use mesh_types::{NodeId, Tenant, Timestamp};
use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};

use super::unreadable;
use crate::credential::Hash;

/// A node's secret as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) node: NodeId,
    pub(crate) tenant: Tenant,
    pub(crate) owner: String,
    pub(crate) hash: Vec<u8>,
    pub(crate) issued_at: Timestamp,
    /// The actor that it was issued to.
    pub(crate) issued_for: String,
    pub(crate) revoked_at: Option<Timestamp>,
    pub(crate) last_used_at: Option<Timestamp>,
}

/// Whose secret this is. Found by its hash: nobody learns from the time of a search among hashes of 256 random bits.
pub(crate) async fn by_hash(db: impl PgExecutor<'_>, hash: &Hash) -> Result<Option<Known>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT node_id, tenant, owner, hash, issued_at, issued_for, revoked_at, last_used_at FROM identity.node_secret \
         WHERE hash = $1",
    )
    .bind(hash.as_slice())
    .fetch_optional(db)
    .await?;
    row.map(Row::known).transpose()
}

pub(crate) async fn get(db: impl PgExecutor<'_>, node: &NodeId) -> Result<Option<Known>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT node_id, tenant, owner, hash, issued_at, issued_for, revoked_at, last_used_at FROM identity.node_secret \
         WHERE node_id = $1",
    )
    .bind(node.as_str())
    .fetch_optional(db)
    .await?;
    row.map(Row::known).transpose()
}

/// Of every tenant, by the nodes' ids, those after `after`; in a transaction of every tenant.
pub(crate) async fn list_all(
    tx: &mut PgConnection,
    after: Option<&NodeId>,
    limit: i64,
) -> Result<Vec<Known>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT node_id, tenant, owner, hash, issued_at, issued_for, revoked_at, last_used_at FROM identity.node_secret \
         WHERE node_id > $1 ORDER BY node_id LIMIT $2",
    )
    .bind(after.map_or("", NodeId::as_str))
    .bind(limit)
    .fetch_all(tx)
    .await?;
    rows.into_iter().map(Row::known).collect()
}

/// Strikes off the secret of a node that the registry knows in no other tenant than `keep`; `None`: in none at all. One
/// that was issued after `until` stays: what is known of the node is older. Whether there was one.
pub(crate) async fn strike_off(
    tx: &mut PgConnection,
    node: &NodeId,
    keep: Option<&Tenant>,
    until: Timestamp,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "DELETE FROM identity.node_secret WHERE node_id = $1 AND tenant IS DISTINCT FROM $2 AND issued_at <= $3",
    )
    .bind(node.as_str())
    .bind(keep.map(Tenant::as_str))
    .bind(until.to_chrono())
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A secret to be issued.
pub(crate) struct Issue<'a> {
    pub(crate) node: &'a NodeId,
    pub(crate) tenant: &'a Tenant,
    pub(crate) owner: &'a str,
    pub(crate) hash: &'a Hash,
    pub(crate) at: Timestamp,
    /// The actor that gets it.
    pub(crate) issued_for: &'a str,
}

/// The node's secret from now on; the one before is none any more, and must be the one of the hash `before`. Whether it
/// was.
pub(crate) async fn replace(
    tx: &mut PgConnection,
    issue: &Issue<'_>,
    before: Option<&[u8]>,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO identity.node_secret AS kept (node_id, tenant, owner, hash, issued_at, issued_for) \
         VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT ON CONSTRAINT node_secret_key DO UPDATE SET owner = EXCLUDED.owner, hash = EXCLUDED.hash, \
           issued_at = EXCLUDED.issued_at, issued_for = EXCLUDED.issued_for, revoked_at = NULL, last_used_at = NULL \
           WHERE kept.hash = $7",
    )
    .bind(issue.node.as_str())
    .bind(issue.tenant.as_str())
    .bind(issue.owner)
    .bind(issue.hash.as_slice())
    .bind(issue.at.to_chrono())
    .bind(issue.issued_for)
    .bind(before)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether it was not revoked before.
pub(crate) async fn revoke(tx: &mut PgConnection, node: &NodeId, at: Timestamp) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("UPDATE identity.node_secret SET revoked_at = $2 WHERE node_id = $1 AND revoked_at IS NULL")
        .bind(node.as_str())
        .bind(at.to_chrono())
        .execute(tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) async fn used(tx: &mut PgConnection, node: &NodeId, at: Timestamp) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE identity.node_secret SET last_used_at = $2 WHERE node_id = $1")
        .bind(node.as_str())
        .bind(at.to_chrono())
        .execute(tx)
        .await
        .map(drop)
}

#[derive(sqlx::FromRow)]
struct Row {
    node_id: String,
    tenant: String,
    owner: String,
    hash: Vec<u8>,
    issued_at: DateTime<Utc>,
    issued_for: String,
    revoked_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
}

impl Row {
    fn known(self) -> Result<Known, sqlx::Error> {
        Ok(Known {
            node: self.node_id.parse().map_err(unreadable)?,
            tenant: self.tenant.parse().map_err(unreadable)?,
            owner: self.owner,
            hash: self.hash,
            issued_at: self.issued_at.into(),
            issued_for: self.issued_for,
            revoked_at: self.revoked_at.map(Into::into),
            last_used_at: self.last_used_at.map(Into::into),
        })
    }
}
