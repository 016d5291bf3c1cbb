//! Out of PostgreSQL: one snapshot of every table of every schema of the mesh, listed by the catalog, as COPY tells it.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::Context as _;
use futures::TryStreamExt;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};

use super::archive::{Packing, Writer};
use super::bar::Bar;
use super::manifest::{Database, Sequence, Table};
use crate::failure::advised;

/// One connection of its own: no timeout of the services' pools, text forms that every PostgreSQL reads back bit by bit,
/// and rows that a policy would hide are an error, not left out.
const SETTINGS: &str = "
    SELECT set_config(name, value, false)
    FROM (VALUES
        ('statement_timeout', '0', 0), ('lock_timeout', '10s', 0), ('idle_in_transaction_session_timeout', '0', 0),
        ('transaction_timeout', '0', 170000), ('row_security', 'off', 0), ('extra_float_digits', '3', 0),
        ('datestyle', 'ISO, YMD', 0), ('intervalstyle', 'postgres', 0), ('bytea_output', 'hex', 0),
        ('timezone', 'UTC', 0), ('maintenance_work_mem', '256MB', 0), ('max_parallel_maintenance_workers', '0', 0)
    ) AS setting (name, value, since)
    WHERE current_setting('server_version_num')::integer >= since";

/// Partitions come with their parents; what a table computes it computes again.
const TABLES: &str = "
    SELECT space.nspname, class.relname, class.relkind = 'p',
        (SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
         WHERE attrelid = class.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''),
        coalesce((SELECT sum(pg_table_size(relid)) FROM pg_partition_tree(class.oid)), pg_table_size(class.oid))::bigint
    FROM pg_class AS class JOIN pg_namespace AS space ON space.oid = class.relnamespace
    WHERE space.nspname = ANY($1) AND class.relkind IN ('r', 'p') AND NOT class.relispartition
    ORDER BY 1, 2";

const SEQUENCES: &str = "
    SELECT space.nspname, class.relname
    FROM pg_class AS class JOIN pg_namespace AS space ON space.oid = class.relnamespace
    WHERE space.nspname = ANY($1) AND class.relkind = 'S' ORDER BY 1, 2";

/// A partition begins at an id, and ids begin with 48 bits of milliseconds.
const WEEKS: &str = "
    SELECT DISTINCT substring(pg_get_expr(class.relpartbound, class.oid) FROM 'FROM \\(''([0-9a-f]{8}-[0-9a-f]{4})-')
    FROM pg_class AS class JOIN pg_namespace AS space ON space.oid = class.relnamespace
    WHERE space.nspname = 'execution' AND class.relispartition AND class.relkind = 'r'";

/// A table as the catalog tells it.
pub(super) struct Listed {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) is_partitioned: bool,
    pub(super) columns: Vec<String>,
    /// On disk, a rough measure of what is to do.
    pub(super) bytes: u64,
}

/// A reader's view of the database as it was at one moment, from its `begin` on.
pub(super) struct Dump {
    connection: PgConnection,
    tables: Vec<Listed>,
}

/// A connection that sees every row, or an error that says what to grant.
pub(super) async fn connect(url: &str) -> anyhow::Result<PgConnection> {
    let next = "start it, or correct MESH_DATABASE_URL";
    let options = PgConnectOptions::from_str(url).context("the database's address cannot be read")?;
    let options = options
        .application_name("mesh-backup")
        .options([("search_path", "public")]);
    let mut connection = options.connect().await.map_err(|error| {
        advised(
            anyhow::Error::from(error).context("cannot connect to the database"),
            next,
        )
    })?;
    sqlx::query(SETTINGS).execute(&mut connection).await?;
    let (user, sees_all): (String, bool) = sqlx::query_as(
        "SELECT current_user::text, rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user",
    )
    .fetch_one(&mut connection)
    .await?;
    if !sees_all {
        let error = anyhow::anyhow!("the database's user {user} does not see the rows of every tenant");
        let grant = format!("let a superuser say: ALTER ROLE {} BYPASSRLS", quoted(&user));
        return Err(advised(error, grant));
    }
    Ok(connection)
}

/// Number of the last migration; `None` where no mesh has ever been.
pub(super) async fn schema_of(connection: &mut PgConnection) -> sqlx::Result<Option<i64>> {
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass('public._sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !is_there {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT max(version) FROM public._sqlx_migrations WHERE success")
        .fetch_one(connection)
        .await
}

pub(super) async fn tables(connection: &mut PgConnection) -> sqlx::Result<Vec<Listed>> {
    let rows: Vec<(String, String, bool, Vec<String>, i64)> = sqlx::query_as(TABLES)
        .bind(mesh_store::schemas())
        .fetch_all(connection)
        .await?;
    let listed = |(schema, name, is_partitioned, columns, bytes): (String, String, bool, Vec<String>, i64)| Listed {
        schema,
        name,
        is_partitioned,
        columns,
        bytes: bytes.unsigned_abs(),
    };
    Ok(rows.into_iter().map(listed).collect())
}

/// How far each shard's work was told of; read before the streams are copied, so that what was told meanwhile is told
/// again after a restore.
pub(super) async fn relayed(url: &str) -> anyhow::Result<BTreeMap<i16, i64>> {
    let mut connection = connect(url).await?;
    match schema_of(&mut connection).await? {
        None => {
            let error = anyhow::anyhow!("there is no mesh in this database");
            Err(advised(
                error,
                "name the right one in MESH_DATABASE_URL; mesh up and mesh migrate make one",
            ))
        }
        Some(schema) if schema > mesh_store::schema_version() => {
            let known = mesh_store::schema_version();
            let error = anyhow::anyhow!("the database's schema is at {schema}, and this mesh knows {known}");
            Err(advised(error, "use the version of mesh that runs on it"))
        }
        Some(_) => {
            let shards = sqlx::query_as("SELECT id, relayed_batch FROM execution.shard");
            Ok(shards.fetch_all(&mut connection).await?.into_iter().collect())
        }
    }
}

impl Dump {
    /// Takes the snapshot.
    pub(super) async fn begin(url: &str) -> anyhow::Result<Self> {
        let mut connection = connect(url).await?;
        execute(&mut connection, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        // The first statement is what takes it.
        let tables = tables(&mut connection).await?;
        Ok(Self { connection, tables })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.bytes).sum()
    }

    pub(super) async fn copy(
        mut self,
        relayed: BTreeMap<i16, i64>,
        archive: &mut Writer,
        bar: &Bar,
    ) -> anyhow::Result<Database> {
        let server = sqlx::query_scalar("SELECT current_setting('server_version')");
        let server: String = server.fetch_one(&mut self.connection).await?;
        let schema = schema_of(&mut self.connection).await?.unwrap_or(0);
        let mut tables = Vec::new();
        for listed in &self.tables {
            bar.step(&format!("{}.{}", listed.schema, listed.name));
            let copied = copy_table(&mut self.connection, listed, archive, bar).await;
            tables.push(copied.with_context(|| format!("cannot copy {}.{}", listed.schema, listed.name))?);
        }
        let sequences = sequences(&mut self.connection).await?;
        let weeks = weeks(&mut self.connection).await?;
        execute(&mut self.connection, "COMMIT").await?;
        Ok(Database {
            server,
            schema,
            tables,
            sequences,
            weeks,
            relayed,
        })
    }
}

async fn copy_table(
    connection: &mut PgConnection,
    listed: &Listed,
    archive: &mut Writer,
    bar: &Bar,
) -> anyhow::Result<Table> {
    let (place, columns) = (place(&listed.schema, &listed.name), columns(&listed.columns));
    let statement = if listed.is_partitioned {
        format!("COPY (SELECT {columns} FROM {place}) TO STDOUT")
    } else {
        format!("COPY {place} ({columns}) TO STDOUT")
    };
    let folder = format!("postgres/{}.{}", listed.schema, listed.name);
    let mut parts = archive.parts(&folder, Packing::Gzip);
    let mut rows = 0;
    let mut content = connection.copy_out_raw(&statement).await?;
    while let Some(bytes) = content.try_next().await? {
        // A row ends with the only line feed in it: those of its values are escaped.
        rows += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        bar.advance(bytes.len() as u64);
        parts.write(&bytes)?;
    }
    Ok(Table {
        schema: listed.schema.clone(),
        name: listed.name.clone(),
        columns: listed.columns.clone(),
        rows,
        parts: parts.finish()?,
    })
}

/// Sequences are no part of a snapshot: read after the rows, they are not behind them.
async fn sequences(connection: &mut PgConnection) -> sqlx::Result<Vec<Sequence>> {
    let names: Vec<(String, String)> = sqlx::query_as(SEQUENCES)
        .bind(mesh_store::schemas())
        .fetch_all(&mut *connection)
        .await?;
    let mut sequences = Vec::new();
    for (schema, name) in names {
        let asked = format!("SELECT last_value, is_called FROM {}", place(&schema, &name));
        let (last_value, is_called) = sqlx::query_as(AssertSqlSafe(asked)).fetch_one(&mut *connection).await?;
        sequences.push(Sequence {
            schema,
            name,
            last_value,
            is_called,
        });
    }
    Ok(sequences)
}

async fn weeks(connection: &mut PgConnection) -> sqlx::Result<Vec<i64>> {
    let beginnings: Vec<Option<String>> = sqlx::query_scalar(WEEKS).fetch_all(connection).await?;
    let millis = |text: &String| i64::from_str_radix(&text.replace('-', ""), 16).ok();
    let mut weeks: Vec<_> = beginnings.iter().flatten().filter_map(millis).collect();
    weeks.sort_unstable();
    Ok(weeks)
}

/// A statement of ours without parameters.
pub(super) async fn execute(connection: &mut PgConnection, statement: &str) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(connection)
        .await
        .map(drop)
}

pub(super) fn place(schema: &str, name: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(name))
}

pub(super) fn columns(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// A name as SQL reads it, whatever is in it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert_eq!(place("a\"b", "c; DROP"), "\"a\"\"b\".\"c; DROP\"");
        assert_eq!(columns(&["x".into(), "by".into()]), "\"x\", \"by\"");
    }
}
