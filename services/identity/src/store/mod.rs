//! All SQL of `identity`. A tenant's rows are written in a transaction of that tenant only.

pub(crate) mod attempts;
pub(crate) mod audit;
pub(crate) mod audit_chain;
pub(crate) mod edge_secrets;
pub(crate) mod external;
pub(crate) mod join_tokens;
pub(crate) mod keys;
pub(crate) mod node_secrets;
pub(crate) mod people;
pub(crate) mod sessions;
pub(crate) mod signing_keys;
pub(crate) mod sweep;
pub(crate) mod tickets;

use mesh_types::Tenant;
use sqlx::PgConnection;

/// Whose rows the transaction touches from here on; `None`: the service's own, which belong to no tenant. So a session
/// ends, and its tenant's audit says so, in one transaction.
pub(crate) async fn turn_to(tx: &mut PgConnection, tenant: Option<&Tenant>) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT set_config('mesh.tenant', $1, true)")
        .bind(tenant.map_or("*", Tenant::as_str))
        .execute(tx)
        .await
        .map(drop)
}

/// A stored value that this build cannot read (written by a newer one): an error of decoding, not of the caller.
fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}
