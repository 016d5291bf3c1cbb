//! Errors of the store, and what a database error means to a caller.

use mesh_types::{Code, Problem};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The address is no Postgres URL; the address itself is not repeated, it holds a password.
    #[error("the database URL is not of the form postgres://user:password@host:port/database")]
    Url(#[source] sqlx::Error),
    #[error("cannot connect to the database to migrate it")]
    Connect(#[source] sqlx::Error),
    /// Data were written by a newer build, or a landed migration was edited.
    #[error("cannot migrate the database")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    #[error("cannot read which migrations were applied")]
    Report(#[source] sqlx::Error),
}

/// Whether the same statement may succeed later without a change: connection lost, no free connection, server starting
/// or stopping, deadlock, lock or statement timeout, a type that a migration has yet to add. After a commit it means
/// "unknown", not "failed".
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::TypeNotFound { .. } => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // Classes: connection, resources, operator intervention (57014: timed out); then serialization failure,
            // deadlock, lock not available, idle and whole transaction timeouts.
            ["08", "53", "57"].iter().any(|class| code.starts_with(class))
                || ["40001", "40P01", "55P03", "25P03", "25P04"].contains(&code.as_ref())
        }),
        _ => false,
    }
}

/// Name of the constraint that refused a row, if one did.
pub fn constraint(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error()?.constraint()
}

/// A database error as it crosses the bus. `doing` completes "the database … while" ("storing the artifact").
/// Data that Postgres cannot hold (SQLSTATE class 22, such as U+0000 in text) is the caller's error.
pub fn to_problem(error: sqlx::Error, doing: &'static str) -> Problem {
    if is_transient(&error) {
        return Problem::new(Code::Unavailable, format!("the database did not answer while {doing}"))
            .next("try again; nothing is known to be lost");
    }
    let is_data_error = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code.starts_with("22"));
    let code = if is_data_error {
        Code::InvalidRequest
    } else {
        Code::Internal
    };
    Problem::new(code, format!("the database refused while {doing}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_unavailable_and_a_bug_is_internal() {
        assert!(to_problem(sqlx::Error::PoolTimedOut, "reading").is(Code::Unavailable));
        assert!(to_problem(sqlx::Error::RowNotFound, "reading").is(Code::Internal));
    }
}
