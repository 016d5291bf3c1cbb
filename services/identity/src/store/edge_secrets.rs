//! Table `identity.edge_secret`.

use mesh_types::Timestamp;
use sqlx::PgConnection;

/// The secret of a purpose; `fresh` where there was none. Of two that come at once both get the same.
pub(crate) async fn get_or_insert(
    tx: &mut PgConnection,
    purpose: &str,
    fresh: &[u8],
    at: Timestamp,
) -> Result<Vec<u8>, sqlx::Error> {
    sqlx::query(
        "INSERT INTO identity.edge_secret (purpose, secret, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(purpose)
    .bind(fresh)
    .bind(at.to_chrono())
    .execute(&mut *tx)
    .await?;
    // A statement of its own: it sees what another transaction has just committed.
    sqlx::query_scalar("SELECT secret FROM identity.edge_secret WHERE purpose = $1")
        .bind(purpose)
        .fetch_one(&mut *tx)
        .await
}
