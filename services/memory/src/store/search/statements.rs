//! The statements of searches: one for each table of vectors and each of the two lists (by vector, by words) it makes.

use super::super::columns;
use crate::embed::Dimensions;

/// A statement that needs nothing but the settings of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plain {
    /// Answers each vector by a reading of its own.
    pub(super) alone: &'static str,
    /// Answers several by one reading, where that is less work.
    pub(super) together: Option<&'static str>,
}

/// Which lists of candidates a search makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lists {
    Near(Dimensions),
    Words,
    Both(Dimensions),
}

/// `$make` for the table of the dimensions.
macro_rules! by_table {
    ($dimensions:expr, $make:ident) => {
        match $dimensions {
            Dimensions::D384 => $make!("384"),
            Dimensions::D768 => $make!("768"),
            Dimensions::D1024 => $make!("1024"),
            Dimensions::D1536 => $make!("1536"),
            Dimensions::D3072 => $make!("3072"),
        }
    };
}
pub(super) use by_table;

/// What is found by words, best first, from the rows of `asked`; `$limit` of them.
macro_rules! worded {
    ($limit:literal) => {
        concat!(
            "worded AS (
                SELECT held.item FROM asked, unnest(asked.items) AS held (item) GROUP BY held.item
                ORDER BY bool_or(asked.stem IS NULL) DESC, sum(asked.weight) DESC, held.item DESC LIMIT ",
            $limit,
            ")"
        )
    };
}

/// How much of the question a text holds, by the weights of its stems; a stem that nothing holds weighs as much as the
/// others on average. Absent for a question without stems.
macro_rules! share {
    ($words:literal) => {
        concat!(
            "(SELECT CASE WHEN count(*) > 0 THEN coalesce(
                sum(asked.weight) FILTER (WHERE ",
            $words,
            " @@ memory.stem_query(asked.stem))
                    / (sum(asked.weight) / count(asked.weight) * count(*)), 0) END
                FROM asked WHERE asked.stem IS NOT NULL)"
        )
    };
}

/// The found memories themselves, without those that must not be seen. Read apart for each candidate (`OFFSET 0`): only
/// then is the tenant set before the first row is looked at, and none is read that is not wanted.
macro_rules! memories {
    ($share:expr) => {
        memories!($share, "$9", "$10")
    };
    ($share:expr, $superseded:literal, $now:literal) => {
        concat!(
            " CROSS JOIN LATERAL (SELECT ",
            columns!(),
            ", ",
            $share,
            " AS share FROM memory.memory AS m WHERE m.tenant = $1 AND m.id = found.item
                AND (",
            $superseded,
            " OR m.superseded_by IS NULL) AND (m.expires_at IS NULL OR m.expires_at > ",
            $now,
            ") OFFSET 0
            ) AS m"
        )
    };
}
pub(super) use memories as memories_of;

/// The tenant is set by the row that the nearest are looked for with: row level security has it before it is asked.
/// $1 tenant, $2 owners, $3 model, $4 vectors, $5 wanted, $6 read, $7 with superseded ones, $8 now; each row says last
/// for which of the vectors it is.
macro_rules! memories_plainly {
    ($n:literal, $distance:literal) => {
        concat!(
            "SELECT hit.*, asked.number
            FROM (SELECT set_config('mesh.tenant', $1, true) AS tenant OFFSET 0) AS caller
            CROSS JOIN LATERAL unnest($4::public.halfvec[]) WITH ORDINALITY AS asked (vector, number)
            CROSS JOIN LATERAL (SELECT m.*, found.distance, true AS is_near, found.listed FROM (
                SELECT near.item, near.distance, count(*) OVER () AS listed FROM (
                    SELECT v.item, ",
            $distance,
            " AS distance FROM memory.memory_vector_",
            $n,
            " AS v WHERE v.tenant = caller.tenant AND v.owner = ANY ($2) AND v.model = $3
                    ORDER BY ",
            $distance,
            " LIMIT $5
                ) AS near
            ) AS found",
            memories!("NULL::double precision", "$7", "$8"),
            " LIMIT $6) AS hit"
        )
    };
}

macro_rules! memories_sorted {
    ($n:literal) => {
        // An expression that the graph does not know.
        memories_plainly!($n, "(v.embedding OPERATOR(public.<=>) asked.vector) + 0")
    };
}

macro_rules! memories_in_view {
    ($n:literal) => {
        memories_plainly!($n, "v.embedding OPERATOR(public.<=>) asked.vector")
    };
}

/// As [`memories_plainly`] by a sort, for up to eight vectors ($4 to $11; NULL: none) that read the owners' vectors once
/// for all: finding and pinning the page of each costs more than its distances. $12 wanted, $13 read, $14 with superseded
/// ones, $15 now, $16 how many vectors there are.
macro_rules! memories_sorted_together {
    ($n:literal) => {
        concat!(
            "SELECT hit.*
            FROM (SELECT set_config('mesh.tenant', $1, true) AS tenant OFFSET 0) AS caller
            CROSS JOIN LATERAL (
                WITH away AS MATERIALIZED (
                    SELECT v.item,
                        v.embedding OPERATOR(public.<=>) $4 AS d1, v.embedding OPERATOR(public.<=>) $5 AS d2,
                        v.embedding OPERATOR(public.<=>) $6 AS d3, v.embedding OPERATOR(public.<=>) $7 AS d4,
                        v.embedding OPERATOR(public.<=>) $8 AS d5, v.embedding OPERATOR(public.<=>) $9 AS d6,
                        v.embedding OPERATOR(public.<=>) $10 AS d7, v.embedding OPERATOR(public.<=>) $11 AS d8
                    FROM memory.memory_vector_",
            $n,
            " AS v WHERE v.tenant = caller.tenant AND v.owner = ANY ($2) AND v.model = $3
                )
                SELECT each.*, asked.number FROM generate_series(1::bigint, $16) AS asked (number)
                CROSS JOIN LATERAL (SELECT m.*, found.distance, true AS is_near, found.listed FROM (
                    SELECT near.item, near.distance, count(*) OVER () AS listed FROM (
                        SELECT away.item, CASE asked.number WHEN 1 THEN away.d1 WHEN 2 THEN away.d2
                            WHEN 3 THEN away.d3 WHEN 4 THEN away.d4 WHEN 5 THEN away.d5 WHEN 6 THEN away.d6
                            WHEN 7 THEN away.d7 ELSE away.d8 END AS distance
                        FROM away ORDER BY distance LIMIT $12
                    ) AS near
                ) AS found",
            memories!("NULL::double precision", "$14", "$15"),
            " LIMIT $13) AS each
            ) AS hit"
        )
    };
}

/// Vectors that [`memories_sorted_together`] takes.
pub(super) const SORTED_TOGETHER: usize = 8;

/// By vector alone and without filters, by a sort of all: what is asked most needs no function.
pub(super) const fn memories_sorted(dimensions: Dimensions) -> Plain {
    Plain {
        alone: by_table!(dimensions, memories_sorted),
        together: Some(by_table!(dimensions, memories_sorted_together)),
    }
}

/// As [`memories_sorted`], by one look at the graph with what the connection keeps in view.
pub(super) const fn memories_in_view(dimensions: Dimensions) -> Plain {
    Plain {
        alone: by_table!(dimensions, memories_in_view),
        together: None,
    }
}

/// $1 tenant, $2 owners, $3 kind, $4 tags, $5 least importance, $6 since, $7 until, $8 invocation, $9 with superseded
/// ones, $10 now, $11 wanted; then $12 model, $13 vector, $14 method, $15 ef_search, $16 whether filters count.
macro_rules! memories_near {
    ($n:literal) => {
        concat!(
            "SELECT m.*, found.distance, true AS is_near, found.listed FROM (
                SELECT near.item, near.distance, count(*) OVER () AS listed FROM memory.near_memory_",
            $n,
            "($1, $2, $12, $13, $14, $15, $11, $16, $3, $4, $5, $6, $7, $8, $9, $10) AS near
                ORDER BY near.distance, near.item
            ) AS found",
            memories!("NULL::double precision"),
            " LIMIT $17"
        )
    };
}

macro_rules! memories_asked {
    () => {
        "asked AS MATERIALIZED (
            SELECT stem, weight, items
            FROM memory.asked_memory($1, $2, $12, $13, $14, $3, $4, $5, $6, $7, $8, $9, $10)
        ), "
    };
}

/// $1 to $11 as above; $12 question, $13 most items of a stem, $14 population.
const MEMORIES_WORDS: &str = concat!(
    "WITH ",
    memories_asked!(),
    worded!("$11"),
    " SELECT m.*, NULL::double precision AS distance, false AS is_near, 0::bigint AS listed FROM worded AS found",
    memories!(share!("m.words"))
);

/// As above; $15 model, $16 vector, $17 method, $18 ef_search, $19 whether filters count.
macro_rules! memories_both {
    ($n:literal) => {
        concat!(
            "WITH near AS MATERIALIZED (
                SELECT item, distance FROM memory.near_memory_",
            $n,
            "($1, $2, $15, $16, $17, $18, $11, $19, $3, $4, $5, $6, $7, $8, $9, $10)
            ), ",
            memories_asked!(),
            worded!("$11"),
            ", found AS MATERIALIZED (
                SELECT item, near.distance, near.item IS NOT NULL AS is_near
                FROM near FULL JOIN worded USING (item)
            )
            SELECT m.*, coalesce(found.distance, (
                SELECT v.embedding OPERATOR(public.<=>) $16 FROM memory.memory_vector_",
            $n,
            " AS v WHERE v.tenant = $1 AND v.item = found.item AND v.model = $15
            )) AS distance, found.is_near, (SELECT count(*) FROM near) AS listed FROM found",
            memories!(share!("m.words"))
        )
    };
}

pub(super) const fn memories(lists: Lists) -> &'static str {
    match lists {
        Lists::Near(dimensions) => by_table!(dimensions, memories_near),
        Lists::Words => MEMORIES_WORDS,
        Lists::Both(dimensions) => by_table!(dimensions, memories_both),
    }
}

macro_rules! chunks {
    ($share:expr) => {
        concat!(
            " CROSS JOIN LATERAL (
                SELECT c.id, c.document, c.headings, c.start_at, c.end_at, c.content,
                    d.base, d.name, d.version, d.url, d.updated_at, ",
            $share,
            " AS share FROM memory.chunk AS c JOIN memory.document AS d ON d.tenant = c.tenant AND d.id = c.document
                WHERE c.tenant = $1 AND c.id = found.item OFFSET 0
            ) AS c"
        )
    };
}

/// $1 tenant, $2 owners, $3 wanted; then $4 model, $5 vector, $6 method, $7 ef_search.
macro_rules! chunks_near {
    ($n:literal) => {
        concat!(
            "SELECT c.*, found.distance, true AS is_near, count(*) OVER () AS listed FROM memory.near_chunk_",
            $n,
            "($1, $2, $4, $5, $6, $7, $3) AS found",
            chunks!("NULL::double precision")
        )
    };
}

macro_rules! chunks_asked {
    () => {
        "asked AS MATERIALIZED (SELECT stem, weight, items FROM memory.asked_chunk($1, $2, $4, $5, $6)), "
    };
}

/// $1 to $3 as above; $4 question, $5 most items of a stem, $6 population.
const CHUNKS_WORDS: &str = concat!(
    "WITH ",
    chunks_asked!(),
    worded!("$3"),
    " SELECT c.*, NULL::double precision AS distance, false AS is_near, 0::bigint AS listed FROM worded AS found",
    chunks!(share!("c.words"))
);

/// As above; $7 model, $8 vector, $9 method, $10 ef_search.
macro_rules! chunks_both {
    ($n:literal) => {
        concat!(
            "WITH near AS MATERIALIZED (
                SELECT item, distance FROM memory.near_chunk_",
            $n,
            "($1, $2, $7, $8, $9, $10, $3)
            ), ",
            chunks_asked!(),
            worded!("$3"),
            ", found AS MATERIALIZED (
                SELECT item, near.distance, near.item IS NOT NULL AS is_near
                FROM near FULL JOIN worded USING (item)
            )
            SELECT c.*, coalesce(found.distance, (
                SELECT v.embedding OPERATOR(public.<=>) $8 FROM memory.chunk_vector_",
            $n,
            " AS v WHERE v.tenant = $1 AND v.item = found.item AND v.model = $7
            )) AS distance, found.is_near, (SELECT count(*) FROM near) AS listed FROM found",
            chunks!(share!("c.words"))
        )
    };
}

pub(super) const fn chunks(lists: Lists) -> &'static str {
    match lists {
        Lists::Near(dimensions) => by_table!(dimensions, chunks_near),
        Lists::Words => CHUNKS_WORDS,
        Lists::Both(dimensions) => by_table!(dimensions, chunks_both),
    }
}

macro_rules! size {
    ($table:literal, $n:literal) => {
        concat!(
            "SELECT (SELECT count(*) FROM (SELECT FROM memory.",
            $table,
            " WHERE tenant = $1 AND owner = ANY ($2) LIMIT $3) AS counted), reltuples::double precision
            FROM pg_catalog.pg_class WHERE oid = 'memory.",
            $table,
            "_vector_",
            $n,
            "'::regclass"
        )
    };
}
macro_rules! memories_size {
    ($n:literal) => {
        size!("memory", $n)
    };
}
macro_rules! chunks_size {
    ($n:literal) => {
        size!("chunk", $n)
    };
}

/// $1 tenant, $2 owners, $3 where counting ends; answers with the planner's estimate of all vectors, too.
pub(super) const fn memories_population(dimensions: Dimensions) -> &'static str {
    by_table!(dimensions, memories_size)
}

pub(super) const fn chunks_population(dimensions: Dimensions) -> &'static str {
    by_table!(dimensions, chunks_size)
}

macro_rules! memories_vectors {
    ($n:literal) => {
        concat!(
            "SELECT item, embedding FROM memory.memory_vector_",
            $n,
            " WHERE tenant = $1 AND model = $2 AND item = ANY ($3)"
        )
    };
}

/// $1 tenant, $2 model, $3 memories.
pub(super) const fn embeddings(dimensions: Dimensions) -> &'static str {
    by_table!(dimensions, memories_vectors)
}
