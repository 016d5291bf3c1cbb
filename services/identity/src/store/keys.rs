//! Table `identity.api_key`.

use mesh_api::Role;
use mesh_api::identity::KeyView;
use mesh_store::IdExt;
use mesh_types::Timestamp;
use mesh_types::id::KeyId;
use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::unreadable;
use crate::credential::Hash;

/// A key with what it is checked by.
pub(crate) struct Known {
    pub(crate) view: KeyView,
    pub(crate) hash: Vec<u8>,
    /// Of the person that the owner is in the key's tenant, if it is one.
    pub(crate) owner_role: Option<Role>,
    pub(crate) owner_disabled: bool,
}

pub(crate) async fn insert(
    tx: &mut PgConnection,
    id: KeyId,
    view: &KeyView,
    hash: &Hash,
    by: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO identity.api_key (id, tenant, owner, name, hash, created_at, created_by, expires_at, role, \
                scopes) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(id.to_uuid())
    .bind(view.tenant.as_str())
    .bind(&view.owner)
    .bind(&view.name)
    .bind(hash.as_slice())
    .bind(view.created_at.to_chrono())
    .bind(by)
    .bind(view.expires_at.map(Timestamp::to_chrono))
    .bind(view.role.unwrap_or(Role::Viewer).as_str())
    .bind(&view.scopes)
    .execute(tx)
    .await
    .map(drop)
}

pub(crate) async fn get(db: impl PgExecutor<'_>, id: KeyId) -> Result<Option<Known>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT k.id, k.tenant, k.owner, k.name, k.hash, k.created_at, k.expires_at, k.revoked_at, k.last_used_at, \
                k.role, k.scopes, m.role AS owner_role, (p.disabled_at IS NOT NULL AND m.person IS NOT NULL) AS owner_disabled \
         FROM identity.api_key AS k LEFT JOIN identity.person AS p ON p.login = k.owner \
         LEFT JOIN identity.membership AS m ON m.person = p.id AND m.tenant = k.tenant \
         WHERE k.id = $1",
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
    before: Option<KeyId>,
    limit: i64,
) -> Result<Vec<KeyView>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, tenant, owner, name, hash, created_at, expires_at, revoked_at, last_used_at, role, scopes, \
                NULL::text AS owner_role, false AS owner_disabled \
         FROM identity.api_key \
         WHERE tenant = current_setting('mesh.tenant') AND ($1::text IS NULL OR owner = $1) \
           AND ($2::uuid IS NULL OR id < $2) \
         ORDER BY id DESC LIMIT $3",
    )
    .bind(owner)
    .bind(before.map(KeyId::to_uuid))
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| row.known().map(|known| known.view))
        .collect()
}

/// Whether it was not revoked before.
pub(crate) async fn revoke(tx: &mut PgConnection, id: KeyId, at: Timestamp) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("UPDATE identity.api_key SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL")
        .bind(id.to_uuid())
        .bind(at.to_chrono())
        .execute(tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) async fn used(tx: &mut PgConnection, id: KeyId, at: Timestamp) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE identity.api_key SET last_used_at = $2 WHERE id = $1")
        .bind(id.to_uuid())
        .bind(at.to_chrono())
        .execute(tx)
        .await
        .map(drop)
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    tenant: String,
    owner: String,
    name: String,
    hash: Vec<u8>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    role: String,
    scopes: Vec<String>,
    owner_role: Option<String>,
    owner_disabled: bool,
}

impl Row {
    fn known(self) -> Result<Known, sqlx::Error> {
        let view = KeyView {
            id: KeyId::from_uuid(self.id).to_string(),
            owner: self.owner,
            tenant: self.tenant.parse().map_err(unreadable)?,
            name: self.name,
            role: Some(self.role.parse().map_err(unreadable)?),
            scopes: self.scopes,
            created_at: self.created_at.into(),
            expires_at: self.expires_at.map(Into::into),
            revoked_at: self.revoked_at.map(Into::into),
            last_used_at: self.last_used_at.map(Into::into),
        };
        Ok(Known {
            view,
            hash: self.hash,
            owner_role: self
                .owner_role
                .map(|role| role.parse().map_err(unreadable))
                .transpose()?,
            owner_disabled: self.owner_disabled,
        })
    }
}
