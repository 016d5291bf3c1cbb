//! The statements about kept vectors: one reads them, one asks whether they are still the same and reads what was found.

use crate::embed::Dimensions;
use crate::store::columns;
use crate::store::search::statements::{by_table, memories_of};

/// Changed memories that one answer brings; with more a set is read anew.
pub(super) const NEWS_MAX: usize = 256;

/// Server, database and tables, as they are at this moment.
macro_rules! store {
    ($n:literal) => {
        concat!(
            "h.store || ' ' || pg_relation_filepath('memory.memory_vector_",
            $n,
            "'::regclass)"
        )
    };
}

/// Changes of the owners that `$snapshot` did not see. The first condition on `xid` is for the index only.
macro_rules! changes {
    ($n:literal, $snapshot:literal) => {
        concat!(
            " FROM memory.vector_change AS c
            WHERE c.tenant = caller.tenant AND c.owner = ANY ($2) AND c.model = $3 AND c.dimensions = ",
            $n,
            " AND c.xid >= pg_snapshot_xmin(",
            $snapshot,
            ") AND NOT pg_visible_in_snapshot(c.xid, ",
            $snapshot,
            ")"
        )
    };
}

/// The horizon's row must be seen: where row level security hid it, it would hide the changes, too. A standby's
/// snapshots do not name what is open on the primary.
macro_rules! read {
    ($n:literal) => {
        concat!(
            "SELECT kept.snapshot, kept.store, v.item, v.embedding
            FROM (SELECT set_config('mesh.tenant', $1, true) AS tenant OFFSET 0) AS caller
            CROSS JOIN LATERAL (SELECT pg_current_snapshot()::text AS snapshot, ",
            store!($n),
            " AS store FROM memory.vector_horizon AS h
                WHERE h.tenant = caller.tenant AND h.store = memory.vector_store()
                    AND h.xid < pg_snapshot_xmin(pg_current_snapshot()) AND NOT pg_is_in_recovery() OFFSET 0
            ) AS kept
            LEFT JOIN memory.memory_vector_",
            $n,
            " AS v ON v.tenant = caller.tenant AND v.owner = ANY ($2) AND v.model = $3
            LIMIT $4"
        )
    };
}

/// $1 tenant, $2 owners, $3 model, $4 most rows. Each row has the snapshot and the store; a vector, if there is one.
pub(super) const fn read(dimensions: Dimensions) -> &'static str {
    by_table!(dimensions, read)
}

/// $1 tenant. Changes before it need not be known: whoever asks reads the vectors afterwards.
pub(super) const BEGIN: &str = "INSERT INTO memory.vector_horizon AS h (tenant, store)
    VALUES ($1, memory.vector_store())
    ON CONFLICT (tenant) DO UPDATE SET store = excluded.store, xid = excluded.xid WHERE h.store <> excluded.store";

/// All of it is of one snapshot. A row for each memory, else for each change, else one.
macro_rules! ask {
    ($n:literal) => {
        concat!(
            "SELECT hit.*, kept.snapshot, kept.is_changed, news.item, news.embedding
            FROM (SELECT set_config('mesh.tenant', $1, true) AS tenant OFFSET 0) AS caller
            CROSS JOIN LATERAL (
                SELECT asked.is_changed,
                    CASE WHEN asked.is_changed OR $12 THEN pg_current_snapshot()::text END AS snapshot
                FROM (SELECT EXISTS (SELECT",
            changes!($n, "$10::text::pg_snapshot"),
            ") AS is_changed FROM memory.vector_horizon AS h
                    WHERE h.tenant = caller.tenant AND h.store = memory.vector_store()
                        AND h.xid < pg_snapshot_xmin($10::text::pg_snapshot) AND $11 = ",
            store!($n),
            " OFFSET 0) AS asked OFFSET 0
            ) AS kept
            LEFT JOIN LATERAL (
                SELECT each.*, NULL::double precision AS distance, true AS is_near, 0::bigint AS listed, asked.number
                FROM generate_series(1::bigint, $9) AS asked (number) CROSS JOIN LATERAL (
                    SELECT m.* FROM unnest(($4::uuid[])[(asked.number - 1) * $5 + 1 : asked.number * $5]) AS found (item)",
            memories_of!("NULL::double precision", "$7", "$8"),
            " LIMIT $6) AS each WHERE NOT kept.is_changed OFFSET 0
            ) AS hit ON true
            LEFT JOIN LATERAL (
                SELECT changed.item, v.embedding FROM (SELECT c.items",
            changes!($n, "$10::text::pg_snapshot"),
            " AND kept.is_changed OFFSET 0) AS c
                CROSS JOIN LATERAL unnest(coalesce(c.items, ARRAY[NULL::uuid])) AS changed (item)
                LEFT JOIN memory.memory_vector_",
            $n,
            " AS v ON v.tenant = caller.tenant AND v.item = changed.item AND v.model = $3 AND v.owner = ANY ($2)
                LIMIT $13
            ) AS news ON true"
        )
    };
}

/// $1 tenant, $2 owners, $3 model; $4 the memories found for each question, one after the other, $5 how many each, $6
/// read, $7 with superseded ones, $8 now, $9 questions; $10 snapshot, $11 store, $12 whether a later snapshot is wanted,
/// $13 most changes. No row: nothing can be said of the kept vectors.
pub(super) const fn ask(dimensions: Dimensions) -> &'static str {
    by_table!(dimensions, ask)
}

/// $1 seconds, $2 most rows. What is from another run of the server says nothing of how far this one is.
pub(super) const PRUNE: &str = "WITH gone AS (
        DELETE FROM memory.vector_change WHERE ctid = ANY (ARRAY(
            SELECT c.ctid FROM memory.vector_change AS c
            WHERE c.at < now() - make_interval(secs => $1) OR c.xid >= pg_snapshot_xmax(pg_current_snapshot()) LIMIT $2
        ))
        RETURNING tenant, xid
    ), raised AS (
        INSERT INTO memory.vector_horizon AS h (tenant, store, xid)
        SELECT DISTINCT ON (gone.tenant) gone.tenant, memory.vector_store(), gone.xid FROM gone
        WHERE gone.xid < pg_snapshot_xmax(pg_current_snapshot()) ORDER BY gone.tenant, gone.xid DESC
        ON CONFLICT (tenant) DO UPDATE SET store = excluded.store,
            xid = CASE WHEN h.store = excluded.store AND h.xid > excluded.xid THEN h.xid ELSE excluded.xid END
    )
    SELECT count(*) FROM gone";
