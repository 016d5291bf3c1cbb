//! Tables `identity.external_login` and `identity.sign_in_state`: sign-in by another provider.

use mesh_store::IdExt;
use mesh_types::Timestamp;
use mesh_types::id::UserId;
use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::credential::Hash;

/// A sign-in on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OnItsWay {
    pub(crate) provider: String,
    pub(crate) verifier: String,
    pub(crate) nonce: String,
    pub(crate) redirect_uri: String,
    pub(crate) return_to: String,
    pub(crate) expires_at: Timestamp,
}

pub(crate) async fn put(
    tx: &mut PgConnection,
    state: &Hash,
    binding: &Hash,
    on_its_way: &OnItsWay,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO identity.sign_in_state \
         (hash, binding, provider, verifier, nonce, redirect_uri, return_to, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(state.as_slice())
    .bind(binding.as_slice())
    .bind(&on_its_way.provider)
    .bind(&on_its_way.verifier)
    .bind(&on_its_way.nonce)
    .bind(&on_its_way.redirect_uri)
    .bind(&on_its_way.return_to)
    .bind(on_its_way.expires_at.to_chrono())
    .execute(tx)
    .await
    .map(drop)
}

/// Once, and by the browser that began it only.
pub(crate) async fn take(tx: &mut PgConnection, state: &Hash, binding: &Hash) -> Result<Option<OnItsWay>, sqlx::Error> {
    let row: Option<(String, String, String, String, String, DateTime<Utc>)> = sqlx::query_as(
        "DELETE FROM identity.sign_in_state WHERE hash = $1 AND binding = $2 \
         RETURNING provider, verifier, nonce, redirect_uri, return_to, expires_at",
    )
    .bind(state.as_slice())
    .bind(binding.as_slice())
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| OnItsWay {
        provider: row.0,
        verifier: row.1,
        nonce: row.2,
        redirect_uri: row.3,
        return_to: row.4,
        expires_at: row.5.into(),
    }))
}

pub(crate) async fn person(
    db: impl PgExecutor<'_>,
    provider: &str,
    subject: &str,
) -> Result<Option<UserId>, sqlx::Error> {
    let id: Option<Uuid> =
        sqlx::query_scalar("SELECT person FROM identity.external_login WHERE provider = $1 AND subject = $2")
            .bind(provider)
            .bind(subject)
            .fetch_optional(db)
            .await?;
    Ok(id.map(UserId::from_uuid))
}

pub(crate) async fn link(
    tx: &mut PgConnection,
    provider: &str,
    subject: &str,
    person: UserId,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO identity.external_login (provider, subject, person, created_at) VALUES ($1, $2, $3, $4)")
        .bind(provider)
        .bind(subject)
        .bind(person.to_uuid())
        .bind(at.to_chrono())
        .execute(tx)
        .await
        .map(drop)
}
