//! Into PostgreSQL: the schema as it was when the archive was made, its rows, and then today's schema, in one
//! transaction. Whatever goes wrong before the commit, the database is as it was.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, anyhow, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::archive::{Archive, piece};
use super::bar::Bar;
use super::dump::{columns, connect, execute, place, quoted, schema_of, tables};
use super::manifest::Table;

/// Stands while PostgreSQL is restored and NATS is not yet: a restore that was cut off there may be repeated.
const UNFINISHED: &str = "public._mesh_restore";
/// Rows that a migration writes into an empty database.
const SEEDED: [&str; 3] = ["execution.installation", "execution.shard", "reconciler.leader"];
const PIECE_BYTES: usize = 64 * 1024;
/// Facts that were published so shortly before the streams were copied are published again: the clocks of services and of
/// this machine differ, and an event's id tells that it is the same.
const PUBLISHED_MARGIN: &str = "5 minutes";

/// Which table must stand before which: parents of foreign keys first.
const KEYS: &str = "
    SELECT child_space.nspname || '.' || child.relname, parent_space.nspname || '.' || parent.relname
    FROM pg_constraint AS key
    JOIN pg_class AS child ON child.oid = key.conrelid JOIN pg_namespace AS child_space ON child_space.oid = child.relnamespace
    JOIN pg_class AS parent ON parent.oid = key.confrelid JOIN pg_namespace AS parent_space ON parent_space.oid = parent.relnamespace
    WHERE key.contype = 'f' AND key.conparentid = 0 AND child_space.nspname = ANY($1)";

/// Those that cost ten times more when they grow row by row.
const DEAR_INDEXES: &str = "
    SELECT index.oid::regclass::text, pg_get_indexdef(index.oid)
    FROM pg_class AS index JOIN pg_am AS method ON method.oid = index.relam
    JOIN pg_namespace AS space ON space.oid = index.relnamespace
    WHERE space.nspname = ANY($1) AND method.amname IN ('hnsw', 'gin') AND index.relkind = 'i' AND NOT index.relispartition";

/// What a database holds that a restore would replace.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Tables with rows in them.
    pub(super) rows: BTreeMap<String, i64>,
    /// A restore was cut off after its commit.
    pub(super) is_unfinished: bool,
}

pub(super) async fn held(url: &str) -> anyhow::Result<Held> {
    let mut connection = connect(url).await?;
    let mut held = Held::default();
    if schema_of(&mut connection).await?.is_none() {
        return Ok(held);
    }
    held.is_unfinished = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(UNFINISHED)
        .fetch_one(&mut connection)
        .await?;
    for table in tables(&mut connection).await? {
        let label = format!("{}.{}", table.schema, table.name);
        if SEEDED.contains(&label.as_str()) {
            continue;
        }
        let asked = format!("SELECT count(*) FROM {}", place(&table.schema, &table.name));
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(asked))
            .fetch_one(&mut connection)
            .await?;
        if rows > 0 {
            held.rows.insert(label, rows);
        }
    }
    Ok(held)
}

/// Replaces everything of the mesh in this database by what the archive holds.
pub(super) async fn load(url: &str, archive: &Archive, bar: &Bar) -> anyhow::Result<()> {
    let mut connection = connect(url).await?;
    let mut transaction = connection.begin().await?;
    let tx: &mut PgConnection = &mut transaction;
    let database = &archive.manifest.database;
    for schema in mesh_store::schemas() {
        execute(tx, &format!("DROP SCHEMA IF EXISTS {} CASCADE", quoted(schema))).await?;
    }
    execute(
        tx,
        &format!("DROP TABLE IF EXISTS public._sqlx_migrations, {UNFINISHED}"),
    )
    .await?;
    mesh_store::migrate_to(tx, database.schema).await?;
    let order = check_tables(tx, archive).await?;
    let indexes: Vec<(String, String)> = sqlx::query_as(DEAR_INDEXES)
        .bind(mesh_store::schemas())
        .fetch_all(&mut *tx)
        .await?;
    for (name, _) in &indexes {
        execute(tx, &format!("DROP INDEX {name}")).await?;
    }
    let all: Vec<_> = order.iter().map(|table| place(&table.schema, &table.name)).collect();
    execute(tx, &format!("TRUNCATE {}", all.join(", "))).await?;
    for week in &database.weeks {
        sqlx::query("SELECT execution.ensure_partitions(to_timestamp($1::double precision / 1000))")
            .bind(*week)
            .execute(&mut *tx)
            .await?;
    }
    for table in order {
        bar.step(&table.label());
        let copied = copy_table(tx, archive, table, bar).await;
        copied.with_context(|| format!("cannot put the rows of {} back", table.label()))?;
    }
    bar.step("building indexes");
    for (_, definition) in &indexes {
        execute(tx, definition).await?;
    }
    for sequence in &database.sequences {
        sqlx::query("SELECT setval($1::regclass, $2, $3)")
            .bind(place(&sequence.schema, &sequence.name))
            .bind(sequence.last_value)
            .bind(sequence.is_called)
            .execute(&mut *tx)
            .await?;
    }
    start_anew(tx, archive).await?;
    mesh_store::migrate_to(tx, mesh_store::schema_version()).await?;
    execute(
        tx,
        &format!("CREATE TABLE {UNFINISHED} (at timestamptz NOT NULL DEFAULT now())"),
    )
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// NATS is restored, too.
pub(super) async fn finish(url: &str) -> anyhow::Result<()> {
    let mut connection = connect(url).await?;
    execute(&mut connection, &format!("DROP TABLE IF EXISTS {UNFINISHED}")).await?;
    // Plans are made from statistics, and there are none of fresh rows.
    execute(&mut connection, "ANALYZE").await?;
    Ok(())
}

/// The archive's tables in an order that foreign keys allow, if they are those of the schema.
async fn check_tables<'a>(tx: &mut PgConnection, archive: &'a Archive) -> anyhow::Result<Vec<&'a Table>> {
    let there = tables(tx).await?;
    let there: BTreeMap<_, _> = there
        .iter()
        .map(|table| (format!("{}.{}", table.schema, table.name), &table.columns))
        .collect();
    let given: BTreeMap<_, _> = archive
        .manifest
        .database
        .tables
        .iter()
        .map(|table| (table.label(), table))
        .collect();
    for (label, columns) in &there {
        let same = given.get(label).is_some_and(|table| &&table.columns == columns);
        ensure!(
            same,
            "the archive's {label} is not that of schema {}",
            archive.manifest.database.schema
        );
    }
    ensure!(
        given.len() == there.len(),
        "the archive has tables that its schema has not"
    );
    let keys: Vec<(String, String)> = sqlx::query_as(KEYS).bind(mesh_store::schemas()).fetch_all(tx).await?;
    let order = ordered(given.keys().cloned().collect(), &keys)?;
    Ok(order.iter().map(|label| given[label]).collect())
}

/// Parents before children; `keys` are (child, parent).
fn ordered(mut left: BTreeSet<String>, keys: &[(String, String)]) -> anyhow::Result<Vec<String>> {
    let mut order = Vec::new();
    while !left.is_empty() {
        let waits = |label: &String| {
            let mut parents = keys.iter().filter(|(child, _)| child == label);
            parents.any(|(_, parent)| parent != label && left.contains(parent))
        };
        let ready: Vec<_> = left.iter().filter(|label| !waits(label)).cloned().collect();
        if ready.is_empty() {
            return Err(anyhow!("foreign keys go in a circle among {left:?}"));
        }
        left.retain(|label| !ready.contains(label));
        order.extend(ready);
    }
    Ok(order)
}

async fn copy_table(tx: &mut PgConnection, archive: &Archive, table: &Table, bar: &Bar) -> anyhow::Result<()> {
    let (place, columns) = (place(&table.schema, &table.name), columns(&table.columns));
    let mut copy = tx.copy_in_raw(&format!("COPY {place} ({columns}) FROM STDIN")).await?;
    for part in &table.parts {
        let mut content = archive.unpacked(part)?;
        while let Some(bytes) = piece(&mut content, PIECE_BYTES)? {
            copy.send(bytes).await?;
        }
        bar.advance(part.bytes);
    }
    let rows = copy.finish().await?;
    ensure!(rows == table.rows, "{rows} came, and {} were written", table.rows);
    Ok(())
}

/// What must differ from the mesh that the archive is of. A new feed id makes old cursors start again; what was told of
/// on NATS while its streams were being copied is told again, for the copy may lack it.
async fn start_anew(tx: &mut PgConnection, archive: &Archive) -> anyhow::Result<()> {
    execute(
        tx,
        "UPDATE execution.installation SET feed_id = gen_random_uuid()::text",
    )
    .await?;
    let (ids, batches): (Vec<i16>, Vec<i64>) = archive.manifest.database.relayed.iter().unzip();
    sqlx::query(
        "UPDATE execution.shard SET relayed_batch = least(relayed_batch, before.batch)
         FROM unnest($1::smallint[], $2::bigint[]) AS before (id, batch) WHERE shard.id = before.id",
    )
    .bind(ids)
    .bind(batches)
    .execute(&mut *tx)
    .await?;
    let is_outbox = |table: &&Table| table.name == "event" && table.columns.iter().any(|name| name == "published_at");
    for outbox in archive.manifest.database.tables.iter().filter(is_outbox) {
        let place = place(&outbox.schema, &outbox.name);
        let again =
            format!("UPDATE {place} SET published_at = NULL WHERE published_at >= $1 - interval '{PUBLISHED_MARGIN}'");
        sqlx::query(AssertSqlSafe(again))
            .bind(archive.manifest.created_at.to_chrono())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(child: &str, parent: &str) -> (String, String) {
        (child.to_owned(), parent.to_owned())
    }

    #[test]
    fn parents_come_before_their_children_and_a_circle_is_told() {
        let labels = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let keys = [pair("a", "b"), pair("b", "c"), pair("d", "d"), pair("a", "elsewhere")];
        let order = ordered(labels(&["a", "b", "c", "d"]), &keys).unwrap();
        let at = |name: &str| order.iter().position(|one| one == name).unwrap();
        assert!(at("c") < at("b") && at("b") < at("a") && order.len() == 4, "{order:?}");
        assert!(ordered(labels(&["a", "b"]), &[pair("a", "b"), pair("b", "a")]).is_err());
    }
}
