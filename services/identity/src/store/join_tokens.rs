//! Tables `identity.join_token` and `identity.join_use`.

use mesh_api::identity::JoinTokenView;
use mesh_store::IdExt;
use mesh_types::id::JoinTokenId;
use mesh_types::{NodeId, Tenant, Timestamp};
use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::unreadable;
use crate::credential::Hash;

/// A token with what it is checked by.
pub(crate) struct Known {
    pub(crate) view: JoinTokenView,
    pub(crate) hash: Vec<u8>,
}

/// What became of a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Counted,
    /// The node had joined with it before.
    Known,
    /// As many nodes as it is for have joined.
    Exhausted,
}

pub(crate) async fn insert(
    tx: &mut PgConnection,
    id: JoinTokenId,
    view: &JoinTokenView,
    hash: &Hash,
    by: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO identity.join_token (id, tenant, owner, hash, created_at, created_by, expires_at, uses_max, node_id) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(id.to_uuid())
    .bind(view.tenant.as_str())
    .bind(&view.owner)
    .bind(hash.as_slice())
    .bind(view.created_at.to_chrono())
    .bind(by)
    .bind(view.expires_at.to_chrono())
    .bind(view.uses_max.map(stored))
    .bind(view.node_id.as_ref().map(NodeId::as_str))
    .execute(tx)
    .await
    .map(drop)
}

pub(crate) async fn get(db: impl PgExecutor<'_>, id: JoinTokenId) -> Result<Option<Known>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT id, tenant, owner, hash, created_at, expires_at, revoked_at, uses, uses_max, node_id \
         FROM identity.join_token WHERE id = $1",
    )
    .bind(id.to_uuid())
    .fetch_optional(db)
    .await?;
    row.map(Row::known).transpose()
}

/// Newest first, those before `before`; of one owner or of all.
pub(crate) async fn list(
    db: impl PgExecutor<'_>,
    owner: Option<&str>,
    before: Option<JoinTokenId>,
    limit: i64,
) -> Result<Vec<JoinTokenView>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, tenant, owner, hash, created_at, expires_at, revoked_at, uses, uses_max, node_id \
         FROM identity.join_token \
         WHERE tenant = current_setting('mesh.tenant') AND ($1::text IS NULL OR owner = $1) \
           AND ($2::uuid IS NULL OR id < $2) \
         ORDER BY id DESC LIMIT $3",
    )
    .bind(owner)
    .bind(before.map(JoinTokenId::to_uuid))
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| row.known().map(|known| known.view))
        .collect()
}

/// Whether it was not revoked before.
pub(crate) async fn revoke(tx: &mut PgConnection, id: JoinTokenId, at: Timestamp) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("UPDATE identity.join_token SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL")
        .bind(id.to_uuid())
        .bind(at.to_chrono())
        .execute(tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// One after the other changes what a token was used for; a use is looked at and changed within one turn.
async fn lock(tx: &mut PgConnection, id: JoinTokenId) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT FROM identity.join_token WHERE id = $1 FOR UPDATE")
        .bind(id.to_uuid())
        .execute(tx)
        .await
        .map(drop)
}

/// Counts a node that joins, unless it has joined with this token before. The count and its bound are one statement,
/// so that two nodes never share the last use.
pub(crate) async fn count_use(
    tx: &mut PgConnection,
    id: JoinTokenId,
    tenant: &Tenant,
    node: &NodeId,
    at: Timestamp,
) -> Result<Use, sqlx::Error> {
    lock(&mut *tx, id).await?;
    let noted = sqlx::query(
        "INSERT INTO identity.join_use (tenant, token, node_id, at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(id.to_uuid())
    .bind(node.as_str())
    .bind(at.to_chrono())
    .execute(&mut *tx)
    .await?;
    if noted.rows_affected() == 0 {
        return Ok(Use::Known);
    }
    let counted = sqlx::query(
        "UPDATE identity.join_token SET uses = uses + 1 WHERE id = $1 AND (uses_max IS NULL OR uses < uses_max)",
    )
    .bind(id.to_uuid())
    .execute(tx)
    .await?;
    Ok(if counted.rows_affected() == 1 {
        Use::Counted
    } else {
        Use::Exhausted
    })
}

/// Takes a use back: the node was not let in after all. Unless it was by another try, and `issued_for` got its secret.
pub(crate) async fn uncount_use(
    tx: &mut PgConnection,
    id: JoinTokenId,
    node: &NodeId,
    issued_for: &str,
) -> Result<(), sqlx::Error> {
    lock(&mut *tx, id).await?;
    let gone = sqlx::query(
        "DELETE FROM identity.join_use WHERE token = $1 AND node_id = $2 \
         AND NOT EXISTS (SELECT FROM identity.node_secret WHERE node_id = $2 AND issued_for = $3)",
    )
    .bind(id.to_uuid())
    .bind(node.as_str())
    .bind(issued_for)
    .execute(&mut *tx)
    .await?;
    if gone.rows_affected() == 1 {
        sqlx::query("UPDATE identity.join_token SET uses = uses - 1 WHERE id = $1 AND uses > 0")
            .bind(id.to_uuid())
            .execute(tx)
            .await?;
    }
    Ok(())
}

fn stored(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    tenant: String,
    owner: String,
    hash: Vec<u8>,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    revoked_at: Option<DateTime<Utc>>,
    uses: i32,
    uses_max: Option<i32>,
    node_id: Option<String>,
}

impl Row {
    fn known(self) -> Result<Known, sqlx::Error> {
        let count = |value: i32| u32::try_from(value).unwrap_or(0);
        let view = JoinTokenView {
            id: JoinTokenId::from_uuid(self.id).to_string(),
            owner: self.owner,
            tenant: self.tenant.parse().map_err(unreadable)?,
            created_at: self.created_at.into(),
            expires_at: self.expires_at.into(),
            revoked_at: self.revoked_at.map(Into::into),
            uses: count(self.uses),
            uses_max: self.uses_max.map(count),
            node_id: self.node_id.map(|id| id.parse()).transpose().map_err(unreadable)?,
        };
        Ok(Known { view, hash: self.hash })
    }
}
