//! Table `identity.ticket`.

use mesh_types::{Tenant, Timestamp};
use sqlx::PgConnection;
use sqlx::types::chrono::{DateTime, Utc};

use super::unreadable;
use crate::credential::Hash;

/// A ticket as it was made.
pub(crate) struct Taken {
    pub(crate) acts_in: Tenant,
    /// `ses_…` or `key_…`; `None` in development mode.
    pub(crate) standing: Option<String>,
    pub(crate) expires_at: Timestamp,
}

pub(crate) async fn insert(tx: &mut PgConnection, hash: &Hash, ticket: &Taken) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO identity.ticket (hash, acts_in, standing, expires_at) VALUES ($1, $2, $3, $4)")
        .bind(hash.as_slice())
        .bind(ticket.acts_in.as_str())
        .bind(&ticket.standing)
        .bind(ticket.expires_at.to_chrono())
        .execute(tx)
        .await
        .map(drop)
}

/// Whoever takes it first has it.
pub(crate) async fn take(tx: &mut PgConnection, hash: &Hash) -> Result<Option<Taken>, sqlx::Error> {
    let row: Option<(String, Option<String>, DateTime<Utc>)> =
        sqlx::query_as("DELETE FROM identity.ticket WHERE hash = $1 RETURNING acts_in, standing, expires_at")
            .bind(hash.as_slice())
            .fetch_optional(tx)
            .await?;
    row.map(|(acts_in, standing, expires_at)| {
        Ok(Taken {
            acts_in: acts_in.parse().map_err(unreadable)?,
            standing,
            expires_at: expires_at.into(),
        })
    })
    .transpose()
}
