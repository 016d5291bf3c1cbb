//! All SQL of `identity`. A tenant's rows are written in a transaction of that tenant only.

pub(crate) mod audit;
pub(crate) mod join_tokens;
pub(crate) mod keys;
pub(crate) mod node_secrets;

/// A stored value that this build cannot read (written by a newer one): an error of decoding, not of the caller.
fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}
