//! What the measurement asks Postgres: settings, counters, whether all is there. The ceiling's writes are in `rows`.

pub(super) mod rows;
pub(super) mod scratch;
#[cfg(test)]
mod tests;

use std::str::FromStr;

use mesh_types::{AgentName, Tenant};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Executor, FromRow, PgPool};
use uuid::Uuid;

/// Rows of the ceiling carry this tenant; nobody is served under it.
pub(super) const CEILING_TENANT: &str = "bench-ceiling";
/// Ids that one question names.
const IDS_MAX: usize = 20_000;

#[derive(Debug, FromRow)]
pub(super) struct Settings {
    pub(super) fsync: String,
    pub(super) synchronous_commit: String,
    pub(super) full_page_writes: String,
    pub(super) version: String,
}

/// A pool that takes no role: the user that migrated owns the tables. It sees the ceiling's rows only, where row level
/// security binds it.
pub(super) fn connect_as_owner(url: &str) -> Result<PgPool, sqlx::Error> {
    let options = PgConnectOptions::from_str(url)?.application_name("mesh-bench");
    Ok(PgPoolOptions::new()
        .max_connections(2)
        .after_connect(|connection, _| {
            Box::pin(async move {
                connection
                    .execute("SELECT set_config('mesh.tenant', 'bench-ceiling', false)")
                    .await
                    .map(drop)
            })
        })
        .connect_lazy_with(options))
}

pub(super) async fn durability(lanes: &PgPool) -> Result<Settings, sqlx::Error> {
    sqlx::query_as(
        "SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS synchronous_commit,
            current_setting('full_page_writes') AS full_page_writes, current_setting('server_version') AS version",
    )
    .fetch_one(lanes)
    .await
}

/// Times that any process of Postgres synced the log; `None` before Postgres 18, which does not count them there.
/// Each process reports at most once a second, after a commit.
pub(super) async fn wal_fsyncs(owner: &PgPool) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT sum(fsyncs)::int8 FROM pg_stat_io WHERE object = 'wal'")
        .fetch_one(owner)
        .await
}

/// Process id of this connection's server process, in the server's own view.
pub(super) async fn backend_pid(owner: &PgPool) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(owner).await
}

/// Writes out what waits, so that no measurement pays for the one before it.
pub(super) async fn checkpoint(owner: &PgPool) -> Result<(), sqlx::Error> {
    owner.execute("CHECKPOINT").await.map(drop)
}

/// How many of these are completed in journal and list alike, and not open.
pub(super) async fn completed(lanes: &PgPool, ids: &[Uuid]) -> Result<u64, sqlx::Error> {
    let mut sum = 0;
    for ids in ids.chunks(IDS_MAX) {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM unnest($1::uuid[]) AS i(id)
             JOIN execution.ended AS e ON e.invocation = i.id AND e.outcome = 'completed'
             JOIN execution.summary AS s ON s.invocation = i.id AND s.state = 'completed'
             LEFT JOIN execution.open AS o ON o.invocation = i.id
             WHERE o.invocation IS NULL",
        )
        .bind(ids)
        .fetch_one(lanes)
        .await?;
        sum += count.cast_unsigned();
    }
    Ok(sum)
}

/// Highest id of a tenant; ids begin with their time.
pub(super) async fn newest(lanes: &PgPool, tenant: &Tenant) -> Result<Uuid, sqlx::Error> {
    let newest = sqlx::query_scalar(
        "SELECT invocation FROM execution.summary WHERE tenant = $1 ORDER BY invocation DESC LIMIT 1",
    );
    Ok(newest
        .bind(tenant.as_str())
        .fetch_optional(lanes)
        .await?
        .unwrap_or_default())
}

/// How many of an agent's invocations above an id are listed as completed.
pub(super) async fn completed_after(
    lanes: &PgPool,
    tenant: &Tenant,
    agent: &AgentName,
    after: Uuid,
) -> Result<u64, sqlx::Error> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM execution.summary
         WHERE tenant = $1 AND invocation > $2 AND agent = $3 AND state = 'completed'",
    )
    .bind(tenant.as_str())
    .bind(after)
    .bind(agent.as_str())
    .fetch_one(lanes)
    .await?;
    Ok(count.cast_unsigned())
}
