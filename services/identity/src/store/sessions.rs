//! Tables `identity.session` and `identity.refresh_token`. In transactions of the service's own.

use mesh_api::Role;
use mesh_store::IdExt;
use mesh_types::id::{SessionId, UserId};
use mesh_types::{Tenant, Timestamp};
use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::unreadable;
use crate::credential::Hash;
use crate::people::rotation::Family;

/// Older tokens of a session are not known any more; one of them is refused and ends nothing.
const GENERATIONS_KEPT: i32 = 200;

/// The session that a refresh token is of.
pub(crate) struct Shown {
    pub(crate) session: SessionId,
    pub(crate) person: UserId,
    pub(crate) acts_in: Tenant,
    /// Of the token.
    pub(crate) generation: i32,
    pub(crate) family: Family,
}

pub(crate) async fn insert(
    tx: &mut PgConnection,
    id: SessionId,
    person: UserId,
    acts_in: &Tenant,
    (at, expires_at): (Timestamp, Timestamp),
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO identity.session (id, person, acts_in, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(id.to_uuid())
    .bind(person.to_uuid())
    .bind(acts_in.as_str())
    .bind(at.to_chrono())
    .bind(expires_at.to_chrono())
    .execute(tx)
    .await
    .map(drop)
}

pub(crate) async fn add_token(
    tx: &mut PgConnection,
    session: SessionId,
    hash: &Hash,
    generation: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO identity.refresh_token (hash, session, generation) VALUES ($1, $2, $3)")
        .bind(hash.as_slice())
        .bind(session.to_uuid())
        .bind(generation)
        .execute(&mut *tx)
        .await?;
    sqlx::query("DELETE FROM identity.refresh_token WHERE session = $1 AND generation < $2")
        .bind(session.to_uuid())
        .bind(generation - GENERATIONS_KEPT)
        .execute(tx)
        .await
        .map(drop)
}

/// Whose token that is; the session stays locked until the transaction ends.
pub(crate) async fn shown(tx: &mut PgConnection, hash: &Hash) -> Result<Option<Shown>, sqlx::Error> {
    let row: Option<ShownRow> = sqlx::query_as(
        "SELECT s.id, s.person, s.acts_in, s.expires_at, s.ended_at, s.generation AS used, s.used_hash, s.used_at, \
                t.generation \
         FROM identity.refresh_token AS t JOIN identity.session AS s ON s.id = t.session \
         WHERE t.hash = $1 FOR UPDATE OF s",
    )
    .bind(hash.as_slice())
    .fetch_optional(tx)
    .await?;
    row.map(ShownRow::shown).transpose()
}

/// Notes which token was used last, and where the session acts from now on.
pub(crate) async fn used(
    tx: &mut PgConnection,
    shown: &Shown,
    hash: &Hash,
    acts_in: &Tenant,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE identity.session SET generation = $2, used_hash = $3, acts_in = $4, \
                used_at = CASE WHEN generation = $2 THEN used_at ELSE $5 END \
         WHERE id = $1",
    )
    .bind(shown.session.to_uuid())
    .bind(shown.generation)
    .bind(hash.as_slice())
    .bind(acts_in.as_str())
    .bind(at.to_chrono())
    .execute(tx)
    .await
    .map(drop)
}

/// Whether it had not ended before.
pub(crate) async fn end(tx: &mut PgConnection, id: SessionId, at: Timestamp) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("UPDATE identity.session SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL")
        .bind(id.to_uuid())
        .bind(at.to_chrono())
        .execute(tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// How many of the person's ended now; `keep` goes on.
pub(crate) async fn end_all(
    tx: &mut PgConnection,
    person: UserId,
    keep: Option<SessionId>,
    at: Timestamp,
) -> Result<u32, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE identity.session SET ended_at = $2 WHERE person = $1 AND ended_at IS NULL AND expires_at > $2 \
           AND id IS DISTINCT FROM $3",
    )
    .bind(person.to_uuid())
    .bind(at.to_chrono())
    .bind(keep.map(SessionId::to_uuid))
    .execute(tx)
    .await?;
    Ok(u32::try_from(done.rows_affected()).unwrap_or(u32::MAX))
}

/// A session as a token or a ticket of it is checked.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) person: UserId,
    pub(crate) login: String,
    pub(crate) disabled: bool,
    pub(crate) ended: bool,
    pub(crate) expires_at: Timestamp,
    /// In the tenant that was asked about; `None`: no member there any more.
    pub(crate) role: Option<Role>,
}

pub(crate) async fn live(db: impl PgExecutor<'_>, id: SessionId, tenant: &Tenant) -> Result<Option<Live>, sqlx::Error> {
    let row: Option<LiveRow> = sqlx::query_as(
        "SELECT p.id, p.login, p.disabled_at IS NOT NULL AS disabled, s.ended_at IS NOT NULL AS ended, s.expires_at, \
                m.role \
         FROM identity.session AS s JOIN identity.person AS p ON p.id = s.person \
         LEFT JOIN identity.membership AS m ON m.person = p.id AND m.tenant = $2 \
         WHERE s.id = $1",
    )
    .bind(id.to_uuid())
    .bind(tenant.as_str())
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        Ok(Live {
            person: UserId::from_uuid(row.id),
            login: row.login,
            disabled: row.disabled,
            ended: row.ended,
            expires_at: row.expires_at.into(),
            role: row.role.map(|role| role.parse().map_err(unreadable)).transpose()?,
        })
    })
    .transpose()
}

#[derive(sqlx::FromRow)]
struct LiveRow {
    id: Uuid,
    login: String,
    disabled: bool,
    ended: bool,
    expires_at: DateTime<Utc>,
    role: Option<String>,
}

#[derive(sqlx::FromRow)]
struct ShownRow {
    id: Uuid,
    person: Uuid,
    acts_in: String,
    expires_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    used: i32,
    used_hash: Option<Vec<u8>>,
    used_at: Option<DateTime<Utc>>,
    generation: i32,
}

impl ShownRow {
    fn shown(self) -> Result<Shown, sqlx::Error> {
        Ok(Shown {
            session: SessionId::from_uuid(self.id),
            person: UserId::from_uuid(self.person),
            acts_in: self.acts_in.parse().map_err(unreadable)?,
            generation: self.generation,
            family: Family {
                generation: self.used,
                used_hash: self.used_hash,
                used_at: self.used_at.map(Into::into),
                ended_at: self.ended_at.map(Into::into),
                expires_at: self.expires_at.into(),
            },
        })
    }
}
