//! SQL of `reconciler`. One writer: the process that leads; its commits check the epoch.

mod commit;
pub(crate) mod kept;
pub(crate) mod leader;
pub(crate) mod passes;
pub(crate) mod services;
pub(crate) mod statistics;

use serde::de::DeserializeOwned;

pub(crate) use commit::{Commit, Committed, commit};

/// A body that this program wrote.
fn read_body<T: DeserializeOwned>(body: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(body).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn body<T: serde::Serialize>(value: &T) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}

/// Counts are never negative and far from the ends of `bigint`.
fn big(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn small(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
