//! Searches: by vector with an exact sort or through the graph, by words for what has no vector.

use mesh_api::memory::QueryRequest;
use mesh_types::{Tenant, Timestamp};
use sqlx::FromRow;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::memories::Vector;
use super::{Row, columns};

/// What every search asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Search<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) request: &'a QueryRequest,
    pub(crate) now: Timestamp,
}

/// How the nearest vectors are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Reads all vectors of the owner: recall 1, cost grows with the owner.
    Exact,
    /// HNSW with iterative scans: may miss some, cost nearly constant.
    Graph,
}

#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) row: Row,
    /// Cosine similarity; absent when found by words.
    pub(crate) vector: Option<f64>,
    /// Share of the query's words in it.
    pub(crate) words: f64,
}

impl FromRow<'_, PgRow> for Found {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        use sqlx::Row as _;
        Ok(Self {
            row: Row::from_row(row)?,
            vector: row.try_get("vector")?,
            words: row.try_get("share")?,
        })
    }
}

const OWNER_SIZE: &str =
    "SELECT count(*) FROM (SELECT FROM memory.memory WHERE tenant = $1 AND agent = $2 LIMIT $3) AS owner";

/// Memories of the agent, counted no further than `limit`.
pub(crate) async fn owner_size(tx: &mut PgConnection, search: Search<'_>, limit: i64) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(OWNER_SIZE)
        .bind(search.tenant.as_str())
        .bind(search.request.agent.as_str())
        .bind(limit)
        .fetch_one(tx)
        .await
}

/// $1 tenant, $2 agent, $3 model, $4 kind or NULL, $5 tags, $6 now, $7 limit, $8 the query's text.
macro_rules! filter {
    () => {
        "m.tenant = $1 AND m.agent = $2 AND ($4::text IS NULL OR m.kind = $4) AND m.tags @> $5::text[]
        AND (m.expires_at IS NULL OR m.expires_at > $6)"
    };
}

macro_rules! share {
    () => {
        "cardinality(ARRAY(SELECT unnest(tsvector_to_array(m.words)) INTERSECT SELECT unnest(asked.words)))
            ::double precision / greatest(cardinality(asked.words), 1) AS share"
    };
}

macro_rules! asked {
    () => {
        "asked AS (SELECT tsvector_to_array(to_tsvector('pg_catalog.simple', $8)) AS words)"
    };
}

/// `$order` decides whether the index on the vectors can be used. $9 is the vector.
macro_rules! nearest {
    ($order:literal) => {
        concat!(
            "WITH ",
            asked!(),
            ", near AS MATERIALIZED (
                SELECT m.id, m.embedding_384 OPERATOR(public.<=>) $9 AS distance
                FROM memory.memory AS m
                WHERE m.embedding_model = $3 AND ",
            filter!(),
            "
                ORDER BY ",
            $order,
            " LIMIT $7
            )
            SELECT ",
            columns!(),
            ", 1 - near.distance AS vector, ",
            share!(),
            "
            FROM near JOIN memory.memory AS m ON m.tenant = $1 AND m.id = near.id, asked
            ORDER BY near.distance, m.id"
        )
    };
}

// An expression that is not the bare operator keeps the planner from the graph, which it picks wrongly.
const EXACT: &str = nearest!("(m.embedding_384 OPERATOR(public.<=>) $9) + 0, m.id");
const GRAPH: &str = nearest!("m.embedding_384 OPERATOR(public.<=>) $9");

const GRAPH_SETTINGS: &str = "SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true),
    set_config('hnsw.ef_search', '100', true), set_config('enable_sort', 'off', true)";

/// The nearest memories that have a vector of the same model, nearest first.
pub(crate) async fn nearest(
    tx: &mut PgConnection,
    search: Search<'_>,
    vector: &Vector,
    method: Method,
) -> Result<Vec<Found>, sqlx::Error> {
    let statement = match method {
        Method::Exact => EXACT,
        Method::Graph => {
            sqlx::query(GRAPH_SETTINGS).execute(&mut *tx).await?;
            GRAPH
        }
    };
    let limit = i64::from(search.request.k);
    filtered(statement, search, vector.model, limit)
        .bind(vector.half())
        .fetch_all(tx)
        .await
}

/// Which memories are looked at by their words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WordScope {
    /// What has no vector of the current model.
    NotEmbedded,
    /// All: the query itself could not be embedded.
    All,
}

// The rank only picks candidates; their share of the query's words orders them in the end.
const BY_WORDS: &str = concat!(
    "WITH ",
    asked!(),
    ", query AS (
        SELECT replace(plainto_tsquery('pg_catalog.simple', $8)::text, '&', '|')::tsquery AS any_word
    ), near AS MATERIALIZED (
        SELECT m.id FROM memory.memory AS m, query
        WHERE ($9 OR m.embedding_model IS DISTINCT FROM $3) AND ",
    filter!(),
    " AND m.words @@ query.any_word
        ORDER BY ts_rank(m.words, query.any_word) DESC, m.id LIMIT $7
    )
    SELECT ",
    columns!(),
    ", NULL::double precision AS vector, ",
    share!(),
    "
    FROM near JOIN memory.memory AS m ON m.tenant = $1 AND m.id = near.id, asked"
);

/// Memories that hold any word of the query, in no order; up to four times as many as asked for.
pub(crate) async fn by_words(
    tx: &mut PgConnection,
    search: Search<'_>,
    model: &'static str,
    scope: WordScope,
) -> Result<Vec<Found>, sqlx::Error> {
    let limit = i64::from(search.request.k) * 4;
    filtered(BY_WORDS, search, model, limit)
        .bind(scope == WordScope::All)
        .fetch_all(tx)
        .await
}

type Query<'q> = sqlx::query::QueryAs<'q, sqlx::Postgres, Found, sqlx::postgres::PgArguments>;

fn filtered<'q>(statement: &'static str, search: Search<'q>, model: &'q str, limit: i64) -> Query<'q> {
    let filters = &search.request.filters;
    sqlx::query_as(statement)
        .bind(search.tenant.as_str())
        .bind(search.request.agent.as_str())
        .bind(model)
        .bind(filters.kind.map(mesh_api::memory::MemoryType::as_str))
        .bind(&filters.tags)
        .bind(search.now.to_chrono())
        .bind(limit)
        .bind(&search.request.query)
}
