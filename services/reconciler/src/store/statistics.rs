//! Statistics of the database that PostgreSQL shows to every role.

use sqlx::{FromRow, PgConnection};

/// Schemas that are shown; there are as many as services, and a few of extensions.
const SCHEMAS_MAX: i64 = 50;

/// Of the whole database; counts are of the time since its statistics began.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct OfDatabase {
    pub(crate) connections: i64,
    pub(crate) connections_max: i64,
    pub(crate) committed: i64,
    pub(crate) rolled_back: i64,
    pub(crate) blocks_cached: i64,
    pub(crate) blocks_read: i64,
    pub(crate) deadlocks: i64,
    pub(crate) bytes: i64,
}

#[derive(Debug, Clone, FromRow)]
pub(crate) struct OfSchema {
    pub(crate) schema: String,
    pub(crate) count: i64,
}

pub(crate) async fn database(db: &mut PgConnection) -> Result<OfDatabase, sqlx::Error> {
    sqlx::query_as(
        "SELECT numbackends::bigint AS connections, current_setting('max_connections')::bigint AS connections_max,
             xact_commit AS committed, xact_rollback AS rolled_back, blks_hit AS blocks_cached,
             blks_read AS blocks_read, deadlocks, pg_database_size(datid) AS bytes
         FROM pg_catalog.pg_stat_database WHERE datname = current_database()",
    )
    .fetch_one(db)
    .await
}

/// Rows that vacuum has yet to remove.
pub(crate) async fn dead_tuples(db: &mut PgConnection) -> Result<Vec<OfSchema>, sqlx::Error> {
    sqlx::query_as(
        "SELECT schemaname::text AS schema, coalesce(sum(n_dead_tup), 0)::bigint AS count
         FROM pg_catalog.pg_stat_user_tables GROUP BY 1 ORDER BY 1 LIMIT $1",
    )
    .bind(SCHEMAS_MAX)
    .fetch_all(db)
    .await
}

/// Bytes of tables with their indexes and what is stored beside them.
pub(crate) async fn sizes(db: &mut PgConnection) -> Result<Vec<OfSchema>, sqlx::Error> {
    sqlx::query_as(
        "SELECT n.nspname::text AS schema, coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint AS count
         FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
         GROUP BY 1 ORDER BY 1 LIMIT $1",
    )
    .bind(SCHEMAS_MAX)
    .fetch_all(db)
    .await
}
