//! All SQL of `registry`. Every statement of a tenant's rows runs in a transaction of that tenant.

pub(crate) mod agents;
pub(crate) mod nodes;
pub(crate) mod placed;
pub(crate) mod pointers;
pub(crate) mod tenants;
pub(crate) mod versions;

/// A stored value that this build cannot read (written by a newer one): an error of decoding, not of the caller.
fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}
