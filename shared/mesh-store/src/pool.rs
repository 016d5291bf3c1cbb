//! Pools: connected lazily, so that services start in any order and outlive restarts of the database.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Executor, PgConnection, PgPool};

use crate::error::StoreError;
use crate::migrate::schema_version;
use crate::role::Role;

/// Below the 5 s deadline of most endpoints: the caller gets "unavailable" instead of silence.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const READY_RETRY_MIN: Duration = Duration::from_millis(50);
const READY_RETRY_MAX: Duration = Duration::from_secs(2);

/// What every connection is told. Durable commits whatever the server's default is; no statement outlives its caller
/// by much; `transaction_timeout` came with Postgres 17. TCP gives up on a dead peer after 10 s.
const SETTINGS: &str = "
    SELECT set_config(name, value, false)
    FROM (VALUES
        ('synchronous_commit', 'on', 0),
        ('statement_timeout', '10s', 0),
        ('lock_timeout', '5s', 0),
        ('idle_in_transaction_session_timeout', '10s', 0),
        ('transaction_timeout', '20s', 170000),
        ('tcp_user_timeout', '10s', 0),
        ('timezone', 'UTC', 0)
    ) AS setting (name, value, since)
    WHERE current_setting('server_version_num')::integer >= since";

/// Plans of the lanes never depend on statistics of tables that are empty in one moment and full in the next.
const LANE_SETTINGS: &str = "
    SELECT set_config(name, value, false)
    FROM (VALUES
        ('enable_seqscan', 'off'),
        ('enable_hashjoin', 'off'),
        ('enable_mergejoin', 'off'),
        ('plan_cache_mode', 'force_generic_plan'),
        ('jit', 'off')
    ) AS setting (name, value)";

const SCHEMA_IS: &str = "SELECT coalesce(max(version), 0) FROM public._sqlx_migrations WHERE success";

#[derive(Clone)]
pub struct StoreOptions {
    /// `postgres://user:password@host:port/database`
    pub url: String,
    pub role: Role,
    pub connections_max: u32,
}

impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreOptions")
            .field("url", &"***")
            .field("role", &self.role)
            .field("connections_max", &self.connections_max)
            .finish()
    }
}

/// A pool whose connections act as the role. Connects lazily: an unreachable server is no error here but of the first
/// use, and one that comes back is found again.
pub async fn connect(options: &StoreOptions) -> Result<PgPool, StoreError> {
    let role = options.role;
    let connect = PgConnectOptions::from_str(&options.url)
        .map_err(StoreError::Url)?
        .application_name(role.application_name());
    Ok(PgPoolOptions::new()
        .max_connections(options.connections_max.max(1))
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(IDLE_TIMEOUT)
        .after_connect(move |connection, _| Box::pin(prepare(connection, role)))
        .connect_lazy_with(connect))
}

async fn prepare(connection: &mut PgConnection, role: Role) -> Result<(), sqlx::Error> {
    connection.execute(SETTINGS).await?;
    if role == Role::Execution {
        connection.execute(LANE_SETTINGS).await?;
    }
    connection.execute(role.set_role()).await?;
    Ok(())
}

/// Waits until the database answers this role and its schema is the one that this build wants, or newer. Waits for
/// ever: select it against the shutdown. Says in the log what it waits for, once per reason.
pub async fn wait_ready(pool: &PgPool) {
    let mut pause = READY_RETRY_MIN;
    let mut said = String::new();
    loop {
        let reason = match sqlx::query_scalar::<_, i64>(SCHEMA_IS).fetch_one(pool).await {
            Ok(version) if version >= schema_version() => return,
            Ok(version) => format!("its schema is at {version}, wanted is {}", schema_version()),
            Err(error) => error.to_string(),
        };
        if reason != said {
            tracing::warn!(%reason, "waiting for the database (`mesh migrate` applies its schema)");
            said = reason;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(READY_RETRY_MAX);
    }
}

/// Reads how many connections a pool has, how many of them are idle, and how many it may have; `None` once it is closed.
pub fn usage(pool: &PgPool) -> impl Fn() -> Option<(u32, u32, u32)> + Send + Sync + Clone + 'static {
    let pool = pool.clone();
    move || {
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        (!pool.is_closed()).then(|| (pool.size(), idle, pool.options().get_max_connections()))
    }
}

/// Asks the database one thing; for `/health`. Clone it freely.
pub type Check = Arc<dyn Fn() -> CheckFuture + Send + Sync>;
type CheckFuture = std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Whether the database answers this pool's role within 2 s; the error says why not.
pub fn probe(pool: &PgPool) -> Check {
    let pool = pool.clone();
    Arc::new(move || {
        let pool = pool.clone();
        Box::pin(async move {
            let answer = pool.execute("SELECT 1");
            match tokio::time::timeout(PROBE_TIMEOUT, answer).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {} s", PROBE_TIMEOUT.as_secs())),
            }
        })
    })
}
