//! Connections that only search: kept apart from the pool, which asks a connection whether it is alive before and after
//! each use. Two questions more would cost as much as the search itself.

use std::sync::{Mutex, PoisonError};

use mesh_store::is_transient;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Executor as _, PgConnection, PgPool, Postgres};
use tokio::sync::{Semaphore, SemaphorePermit};

/// As the settings below have it.
pub(super) const EF_SEARCH: u32 = 100;

/// Statements keep one plan whatever the statistics say of the moment; which way a search goes is decided by whoever
/// asks. Without sorts what orders by a distance goes through the graph; where nothing else orders they are still made.
const SETTINGS: &str = "
    SELECT set_config(name, value, false)
    FROM (VALUES
        ('enable_seqscan', 'off'),
        ('enable_sort', 'off'),
        ('enable_hashjoin', 'off'),
        ('enable_mergejoin', 'off'),
        ('max_parallel_workers_per_gather', '0'),
        ('plan_cache_mode', 'force_generic_plan'),
        ('jit', 'off'),
        ('hnsw.iterative_scan', 'off'),
        ('hnsw.ef_search', '100')
    ) AS setting (name, value)";

pub(crate) struct Lanes {
    pool: PgPool,
    idle: Mutex<Vec<PgConnection>>,
    permits: Semaphore,
}

impl Lanes {
    /// Opens no connection yet; `count` at most.
    pub(crate) fn new(pool: PgPool, count: u32) -> Self {
        Self {
            pool,
            idle: Mutex::default(),
            permits: Semaphore::new(count.max(1) as usize),
        }
    }

    /// All rows of one question, once it is its turn.
    pub(super) async fn fetch<'q>(
        &self,
        question: impl Fn() -> Query<'q, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let _permit = self.permit().await?;
        self.fetch_on(question).await
    }

    /// The right to one of the connections.
    pub(super) async fn permit(&self) -> Result<SemaphorePermit<'_>, sqlx::Error> {
        self.permits.acquire().await.map_err(|_| sqlx::Error::PoolClosed)
    }

    /// As [`Lanes::fetch`], for who holds a permit. Asked once more when the connection was lost meanwhile: a search
    /// changes nothing.
    pub(super) async fn fetch_on<'q>(
        &self,
        question: impl Fn() -> Query<'q, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let kept = self.lock().pop();
        if let Some(mut connection) = kept {
            // Dropped in between, or after an error, it is closed: nobody knows what is left in it.
            match question().fetch_all(&mut connection).await {
                Err(error) if is_transient(&error) => self.lock().clear(),
                answer => return self.kept(connection, answer),
            }
        }
        let mut connection = self.open().await?;
        let answer = question().fetch_all(&mut connection).await;
        self.kept(connection, answer)
    }

    fn kept<T>(&self, connection: PgConnection, answer: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        if answer.is_ok() {
            self.lock().push(connection);
        }
        answer
    }

    async fn open(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = self.pool.acquire().await?.detach();
        connection.execute(SETTINGS).await?;
        Ok(connection)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<PgConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
