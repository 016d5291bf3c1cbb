//! Tables `identity.person` and `identity.membership`.

use mesh_api::Role;
use mesh_api::identity::{Membership, Person, UserView};
use mesh_store::IdExt;
use mesh_types::id::UserId;
use mesh_types::{Tenant, Timestamp};
use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::unreadable;

/// A person as the service knows it. No `Debug`: it holds the password's hash.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) id: UserId,
    /// Whose owners may change it.
    pub(crate) home: Tenant,
    pub(crate) login: String,
    pub(crate) name: String,
    pub(crate) password: Option<String>,
    pub(crate) disabled: bool,
}

impl Known {
    pub(crate) fn person(&self) -> Person {
        Person {
            id: self.id.to_string(),
            login: self.login.clone(),
            name: self.name.clone(),
        }
    }
}

const KNOWN: &str =
    "SELECT id, tenant, login, name, password, disabled_at IS NOT NULL AS disabled FROM identity.person";

pub(crate) async fn by_login(db: impl PgExecutor<'_>, login: &str) -> Result<Option<Known>, sqlx::Error> {
    let row: Option<KnownRow> = sqlx::query_as(sqlx::AssertSqlSafe(format!("{KNOWN} WHERE login = $1")))
        .bind(login)
        .fetch_optional(db)
        .await?;
    row.map(KnownRow::known).transpose()
}

pub(crate) async fn by_id(db: impl PgExecutor<'_>, id: UserId) -> Result<Option<Known>, sqlx::Error> {
    let row: Option<KnownRow> = sqlx::query_as(sqlx::AssertSqlSafe(format!("{KNOWN} WHERE id = $1")))
        .bind(id.to_uuid())
        .fetch_optional(db)
        .await?;
    row.map(KnownRow::known).transpose()
}

/// In a transaction of the person's own tenant.
pub(crate) async fn insert(tx: &mut PgConnection, known: &Known, at: Timestamp, by: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO identity.person (id, tenant, login, name, password, created_at, created_by) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(known.id.to_uuid())
    .bind(known.home.as_str())
    .bind(&known.login)
    .bind(&known.name)
    .bind(&known.password)
    .bind(at.to_chrono())
    .bind(by)
    .execute(tx)
    .await
    .map(drop)
}

pub(crate) async fn add_member(
    tx: &mut PgConnection,
    id: UserId,
    membership: &Membership,
    at: Timestamp,
    by: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO identity.membership (tenant, person, role, created_at, created_by) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(membership.tenant.as_str())
    .bind(id.to_uuid())
    .bind(membership.role.as_str())
    .bind(at.to_chrono())
    .bind(by)
    .execute(tx)
    .await
    .map(drop)
}

/// Every tenant of the person's, by name; in a transaction of the service's own.
pub(crate) async fn memberships(db: impl PgExecutor<'_>, id: UserId) -> Result<Vec<Membership>, sqlx::Error> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT tenant, role FROM identity.membership WHERE person = $1 ORDER BY tenant")
            .bind(id.to_uuid())
            .fetch_all(db)
            .await?;
    rows.into_iter()
        .map(|(tenant, role)| {
            Ok(Membership {
                tenant: tenant.parse().map_err(unreadable)?,
                role: role.parse().map_err(unreadable)?,
            })
        })
        .collect()
}

/// The rest is left out of `SELECT` by both uses, so that one row type reads both.
const VIEW: &str = "SELECT p.id, p.login, p.name, m.role, p.disabled_at IS NOT NULL AS disabled, p.created_at, \
                    m.last_sign_in_at \
                    FROM identity.membership AS m JOIN identity.person AS p ON p.id = m.person \
                    WHERE m.tenant = current_setting('mesh.tenant')";

/// Members of the transaction's tenant, newest first, those before `before`.
pub(crate) async fn list(
    db: impl PgExecutor<'_>,
    before: Option<UserId>,
    limit: i64,
) -> Result<Vec<UserView>, sqlx::Error> {
    let statement = format!("{VIEW} AND ($1::uuid IS NULL OR p.id < $1) ORDER BY p.id DESC LIMIT $2");
    let rows: Vec<ViewRow> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(before.map(UserId::to_uuid))
        .bind(limit)
        .fetch_all(db)
        .await?;
    rows.into_iter().map(ViewRow::view).collect()
}

/// A member of the transaction's tenant.
pub(crate) async fn view(db: impl PgExecutor<'_>, id: UserId) -> Result<Option<UserView>, sqlx::Error> {
    let row: Option<ViewRow> = sqlx::query_as(sqlx::AssertSqlSafe(format!("{VIEW} AND p.id = $1")))
        .bind(id.to_uuid())
        .fetch_optional(db)
        .await?;
    row.map(ViewRow::view).transpose()
}

/// The role of the person of that login in a tenant, and whether he is disabled; `None`: no person of it. In a
/// transaction of all tenants.
pub(crate) async fn standing_of(
    db: impl PgExecutor<'_>,
    login: &str,
    tenant: &Tenant,
) -> Result<Option<(Role, bool)>, sqlx::Error> {
    let row: Option<(String, bool)> = sqlx::query_as(
        "SELECT m.role, p.disabled_at IS NOT NULL FROM identity.person AS p \
         JOIN identity.membership AS m ON m.person = p.id AND m.tenant = $2 WHERE p.login = $1",
    )
    .bind(login)
    .bind(tenant.as_str())
    .fetch_optional(db)
    .await?;
    row.map(|(role, disabled)| Ok((role.parse().map_err(unreadable)?, disabled)))
        .transpose()
}

/// Whether keys, join tokens or nodes of any tenant are owned by that name. In a transaction of all tenants.
pub(crate) async fn owns_credentials(db: impl PgExecutor<'_>, login: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM identity.api_key WHERE owner = $1) \
           OR EXISTS (SELECT FROM identity.join_token WHERE owner = $1) \
           OR EXISTS (SELECT FROM identity.node_secret WHERE owner = $1)",
    )
    .bind(login)
    .fetch_one(db)
    .await
}

/// Owners of the transaction's tenant who can sign in, besides that one; they stay so until it is over, so that two
/// owners cannot remove each other.
pub(crate) async fn other_owners(db: impl PgExecutor<'_>, id: UserId) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT m.person FROM identity.membership AS m \
           JOIN identity.person AS p ON p.id = m.person \
           WHERE m.tenant = current_setting('mesh.tenant') AND m.role = 'owner' AND p.disabled_at IS NULL \
             AND p.id <> $1 FOR UPDATE OF m) AS others",
    )
    .bind(id.to_uuid())
    .fetch_one(db)
    .await
}

pub(crate) async fn set_role(tx: &mut PgConnection, id: UserId, role: Role) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE identity.membership SET role = $2 WHERE person = $1 AND tenant = current_setting('mesh.tenant')",
    )
    .bind(id.to_uuid())
    .bind(role.as_str())
    .execute(tx)
    .await
    .map(drop)
}

pub(crate) async fn set_name(tx: &mut PgConnection, id: UserId, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE identity.person SET name = $2 WHERE id = $1")
        .bind(id.to_uuid())
        .bind(name)
        .execute(tx)
        .await
        .map(drop)
}

/// `None`: not disabled.
pub(crate) async fn set_disabled(tx: &mut PgConnection, id: UserId, at: Option<Timestamp>) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE identity.person SET disabled_at = $2 WHERE id = $1")
        .bind(id.to_uuid())
        .bind(at.map(Timestamp::to_chrono))
        .execute(tx)
        .await
        .map(drop)
}

pub(crate) async fn set_password(tx: &mut PgConnection, id: UserId, hash: &str) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE identity.person SET password = $2 WHERE id = $1")
        .bind(id.to_uuid())
        .bind(hash)
        .execute(tx)
        .await
        .map(drop)
}

/// In a transaction of the tenant that was signed in to.
pub(crate) async fn signed_in(tx: &mut PgConnection, id: UserId, at: Timestamp) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE identity.membership SET last_sign_in_at = $2 \
         WHERE person = $1 AND tenant = current_setting('mesh.tenant')",
    )
    .bind(id.to_uuid())
    .bind(at.to_chrono())
    .execute(tx)
    .await
    .map(drop)
}

pub(crate) async fn delete(tx: &mut PgConnection, id: UserId) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM identity.person WHERE id = $1")
        .bind(id.to_uuid())
        .execute(tx)
        .await
        .map(drop)
}

pub(crate) async fn remove_member(tx: &mut PgConnection, id: UserId) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM identity.membership WHERE person = $1 AND tenant = current_setting('mesh.tenant')")
        .bind(id.to_uuid())
        .execute(tx)
        .await
        .map(drop)
}

/// The ids of keys, join tokens and nodes that stand for the login, as they are named on NATS. In a transaction of all
/// tenants.
pub(crate) async fn credentials_of(tx: &mut PgConnection, login: &str) -> Result<Vec<String>, sqlx::Error> {
    let of = "WHERE owner = $1 AND revoked_at IS NULL";
    let ids = |table: &str| sqlx::AssertSqlSafe(format!("SELECT id FROM identity.{table} {of}"));
    let keys: Vec<Uuid> = sqlx::query_scalar(ids("api_key"))
        .bind(login)
        .fetch_all(&mut *tx)
        .await?;
    let tokens: Vec<Uuid> = sqlx::query_scalar(ids("join_token"))
        .bind(login)
        .fetch_all(&mut *tx)
        .await?;
    let nodes: Vec<String> =
        sqlx::query_scalar("SELECT node_id FROM identity.node_secret WHERE owner = $1 AND revoked_at IS NULL")
            .bind(login)
            .fetch_all(tx)
            .await?;
    Ok(named(keys, tokens).chain(nodes).collect())
}

/// Revokes what stands for the login in the transaction's tenant; the ids of what was revoked.
pub(crate) async fn revoke_credentials(
    tx: &mut PgConnection,
    login: &str,
    at: Timestamp,
) -> Result<Vec<String>, sqlx::Error> {
    let keys: Vec<Uuid> = sqlx::query_scalar(
        "UPDATE identity.api_key SET revoked_at = $2 \
         WHERE owner = $1 AND tenant = current_setting('mesh.tenant') AND revoked_at IS NULL RETURNING id",
    )
    .bind(login)
    .bind(at.to_chrono())
    .fetch_all(&mut *tx)
    .await?;
    let tokens: Vec<Uuid> = sqlx::query_scalar(
        "UPDATE identity.join_token SET revoked_at = $2 \
         WHERE owner = $1 AND tenant = current_setting('mesh.tenant') AND revoked_at IS NULL RETURNING id",
    )
    .bind(login)
    .bind(at.to_chrono())
    .fetch_all(&mut *tx)
    .await?;
    let nodes: Vec<String> = sqlx::query_scalar(
        "UPDATE identity.node_secret SET revoked_at = $2 \
         WHERE owner = $1 AND tenant = current_setting('mesh.tenant') AND revoked_at IS NULL RETURNING node_id",
    )
    .bind(login)
    .bind(at.to_chrono())
    .fetch_all(tx)
    .await?;
    Ok(named(keys, tokens).chain(nodes).collect())
}

fn named(keys: Vec<Uuid>, tokens: Vec<Uuid>) -> impl Iterator<Item = String> {
    use mesh_types::id::{JoinTokenId, KeyId};
    let keys = keys.into_iter().map(|id| KeyId::from_uuid(id).to_string());
    keys.chain(tokens.into_iter().map(|id| JoinTokenId::from_uuid(id).to_string()))
}

#[derive(sqlx::FromRow)]
struct KnownRow {
    id: Uuid,
    tenant: String,
    login: String,
    name: String,
    password: Option<String>,
    disabled: bool,
}

impl KnownRow {
    fn known(self) -> Result<Known, sqlx::Error> {
        Ok(Known {
            id: UserId::from_uuid(self.id),
            home: self.tenant.parse().map_err(unreadable)?,
            login: self.login,
            name: self.name,
            password: self.password,
            disabled: self.disabled,
        })
    }
}

#[derive(sqlx::FromRow)]
struct ViewRow {
    id: Uuid,
    login: String,
    name: String,
    role: String,
    disabled: bool,
    created_at: DateTime<Utc>,
    last_sign_in_at: Option<DateTime<Utc>>,
}

impl ViewRow {
    fn view(self) -> Result<UserView, sqlx::Error> {
        Ok(UserView {
            id: UserId::from_uuid(self.id).to_string(),
            login: self.login,
            name: self.name,
            role: self.role.parse().map_err(unreadable)?,
            disabled: self.disabled,
            created_at: self.created_at.into(),
            last_sign_in_at: self.last_sign_in_at.map(Into::into),
        })
    }
}
