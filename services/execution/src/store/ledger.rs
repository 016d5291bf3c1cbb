//! What a lane asks of the database. Real: one Postgres connection of its own; simulated: a model of it.

use std::time::Duration;

use mesh_api::journal::Record;
use mesh_runtime::fail_point;
use mesh_types::{InvocationId, Timestamp};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::load::{self, Known, Loaded};
use super::rows::Rows;
use super::shards::{self, ShardRow};
use super::write::{Fence, write};
use crate::core::Decision;

/// A statement without an answer for so long is unknown: its connection is dropped and it is sent again.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(12);

/// How an error is taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    /// The database refuses a value or a key, and would again: nothing was written.
    #[error("{message}")]
    Refused { message: String, unique: bool },
    /// Surely not committed: send it again.
    #[error("{0}")]
    Aborted(String),
    /// May be committed: send it again, and look.
    #[error("{0}")]
    Unknown(String),
}

/// Keys and ids that callers chose, to be looked up.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Of `keys`, one each.
    pub(crate) tenants: Vec<String>,
    pub(crate) keys: Vec<String>,
    pub(crate) ids: Vec<Uuid>,
}

pub(crate) trait Ledger: Send + 'static {
    /// Writes the batch under its fences, all of a shard or nothing of it; the answer holds the shards that stood.
    fn write(
        &mut self,
        fences: &[Fence],
        decisions: &[&Decision],
        at: Timestamp,
    ) -> impl Future<Output = Result<Vec<i16>, LedgerError>> + Send;

    fn shards(&mut self, ids: &[i16]) -> impl Future<Output = Result<Vec<ShardRow>, LedgerError>> + Send;

    fn known(&mut self, wanted: &Wanted) -> impl Future<Output = Result<Vec<Known>, LedgerError>> + Send;

    /// Records of one invocation with seq above `after`, at most `limit`.
    fn journal(
        &mut self,
        id: InvocationId,
        after: u32,
        limit: i64,
    ) -> impl Future<Output = Result<Vec<Record>, LedgerError>> + Send;

    /// All that is open in a shard, in order of acceptance within sessions.
    fn open(&mut self, shard: i16) -> impl Future<Output = Result<Loaded, LedgerError>> + Send;

    /// After an error: whatever was on the wire is forgotten.
    fn reset(&mut self);
}

/// Postgres, by a connection outside of the pool: nobody else's work is ever on it.
#[derive(Debug)]
pub(crate) struct PgLedger {
    pool: PgPool,
    connection: Option<PgConnection>,
}

impl PgLedger {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool, connection: None }
    }

    /// Failing here, surely nothing was sent.
    async fn connection(&mut self) -> Result<&mut PgConnection, LedgerError> {
        if self.connection.is_none() {
            let aborted = |error: sqlx::Error| LedgerError::Aborted(error.to_string());
            self.connection = Some(self.pool.acquire().await.map_err(aborted)?.detach());
        }
        let closed = || LedgerError::Aborted("no connection".into());
        self.connection.as_mut().ok_or_else(closed)
    }
}

impl Ledger for PgLedger {
    async fn write(
        &mut self,
        fences: &[Fence],
        decisions: &[&Decision],
        at: Timestamp,
    ) -> Result<Vec<i16>, LedgerError> {
        let mut rows = Rows::default();
        for decision in decisions {
            rows.push(decision);
        }
        let connection = self.connection().await?;
        fail_point!(async "execution.commit.before", LedgerError::Aborted("failpoint".into()));
        let standing = in_time(write(connection, fences, &rows, at.to_chrono())).await?;
        fail_point!(async "execution.commit.after", LedgerError::Unknown("failpoint".into()));
        Ok(standing)
    }

    async fn shards(&mut self, ids: &[i16]) -> Result<Vec<ShardRow>, LedgerError> {
        in_time(shards::some(self.connection().await?, ids)).await
    }

    async fn known(&mut self, wanted: &Wanted) -> Result<Vec<Known>, LedgerError> {
        let Wanted { tenants, keys, ids } = wanted;
        in_time(load::known(self.connection().await?, tenants, keys, ids)).await
    }

    async fn journal(&mut self, id: InvocationId, after: u32, limit: i64) -> Result<Vec<Record>, LedgerError> {
        in_time(load::journal(self.connection().await?, id, after, limit)).await
    }

    async fn open(&mut self, shard: i16) -> Result<Loaded, LedgerError> {
        in_time(load::open(self.connection().await?, shard)).await
    }

    fn reset(&mut self) {
        self.connection = None;
    }
}

async fn in_time<T>(statement: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, LedgerError> {
    match tokio::time::timeout(STATEMENT_DEADLINE, statement).await {
        Ok(result) => result.map_err(classify),
        Err(_) => Err(LedgerError::Unknown("no answer in time".into())),
    }
}

fn classify(error: sqlx::Error) -> LedgerError {
    let message = error
        .as_database_error()
        .map_or_else(|| error.to_string(), |database| database.message().to_owned());
    match &error {
        sqlx::Error::Database(database) => match database.code() {
            // Data exceptions and violated constraints: the same statement would fail again.
            Some(code) if code.starts_with("22") || code.starts_with("23") => LedgerError::Refused {
                message,
                unique: database.is_unique_violation(),
            },
            // The server answered, so the statement, its own transaction, was rolled back. Class 57 may come
            // with a connection that is cut while it commits.
            Some(code) if !code.starts_with("57") && !code.starts_with("08") => LedgerError::Aborted(message),
            _ => LedgerError::Unknown(message),
        },
        // Ours, before anything was sent.
        sqlx::Error::Encode(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => LedgerError::Aborted(message),
        _ => LedgerError::Unknown(message),
    }
}
