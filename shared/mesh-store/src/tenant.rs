//! Transactions that say whose rows they touch; row level security (`mesh.tenant`) holds them to it.

use mesh_types::Tenant;
use sqlx::{PgPool, Postgres, Transaction};

const SET_TENANT: &str = "SELECT set_config('mesh.tenant', $1, true)";
/// No tenant's name: `*` is no token.
const EVERY_TENANT: &str = "*";

/// Begins a transaction that sees and writes rows of `tenant` only. Dropped without a commit, it rolls back.
pub async fn tenant_tx(pool: &PgPool, tenant: &Tenant) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    begin(pool, tenant.as_str()).await
}

/// Begins a transaction of a service's own loop: it sees the rows of every tenant in those tables whose policies say
/// so (outbox, pointers), and writes no tenant's rows.
pub async fn every_tenant_tx(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    begin(pool, EVERY_TENANT).await
}

async fn begin(pool: &PgPool, tenant: &str) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    sqlx::query(SET_TENANT).bind(tenant).execute(&mut *tx).await?;
    Ok(tx)
}
