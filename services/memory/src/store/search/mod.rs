//! Searches of memories and of pieces of documents: candidates by vector and by words in one round trip. Which of them
//! are the best, and why, is `rank`'s. How the nearest are found is chosen by how many items the owners have.
//!
//! ```text
//! let asked = Asked { tenant, owners: &["k:handbook".into()], vector: Some(&vector), words: Some("the question"),
//!                     wanted: 50, enough: k, read: 50 };
//! let found = state.searches.chunks(&asked).await?;
//! let best = rank::best(found, &rank::Aim::new(k, QueryMode::Hybrid, now), &rank::Embeddings::new());
//! ```

mod found;
pub(crate) mod kept;
mod lanes;
mod population;
mod statements;
mod together;
mod way;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use mesh_api::memory::{MemoryType, QueryFilters};
use mesh_runtime::Doorbell;
use mesh_store::{IdExt as _, tenant_tx};
use mesh_types::{Tenant, Timestamp};
use pgvector::HalfVector;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{FromRow, PgPool, Postgres};
use uuid::Uuid;

use super::Row;
use super::vectors::Vector;
use crate::embed::Dimensions;
use crate::rank::{Candidate, Embeddings};
use found::Found;
use kept::{Kept, Key};
use lanes::Lanes;
use population::{COUNTED_MAX, Population, Populations};
use statements::Lists;
use together::{Alike, Together};
use way::{Method, Way};

/// Items that one word brings at most; a word of more tells little.
const ITEMS_OF_A_WORD_MAX: i32 = 500;
/// What HNSW keeps in view (`ef_search`): decision 7 has the measurement.
const EF_SEARCH_MIN: u32 = 100;
const _: () = assert!(EF_SEARCH_MIN == lanes::EF_SEARCH, "connections that search have it set");
/// pgvector takes no more.
const EF_SEARCH_MAX: u32 = 1_000;

/// One search. Without a vector and without words it finds nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) tenant: &'a Tenant,
    /// `t`, `a:<agent>`, `s:<agent>:<session>`, `u:<user>`; `k:<base>` of documents.
    pub(crate) owners: &'a [String],
    /// Only vectors of its model are looked at.
    pub(crate) vector: Option<&'a Vector>,
    /// The question as it was asked.
    pub(crate) words: Option<&'a str>,
    /// Candidates of each of the two lists.
    pub(crate) wanted: u32,
    /// With fewer of the nearest than this a dearer way is tried.
    pub(crate) enough: u32,
    /// Memories that are read when it goes by vector alone, nearest first: reading one costs as much as many more that
    /// are only listed.
    pub(crate) read: u32,
}

/// Of memories only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filter<'a> {
    pub(crate) filters: &'a QueryFilters,
    pub(crate) now: Timestamp,
}

impl Filter<'_> {
    /// Whether anything is filtered by that few memories need to have; what is superseded or expired is rare, and is
    /// dropped from what was found.
    fn is_selective(&self) -> bool {
        let QueryFilters {
            kind,
            tags,
            importance_min,
            since,
            until,
            invocation,
            ..
        } = self.filters;
        kind.is_some()
            || !tags.is_empty()
            || importance_min.is_some()
            || since.is_some()
            || until.is_some()
            || invocation.is_some()
    }
}

/// A piece of a document, with what its citation needs.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct ChunkRow {
    pub(crate) id: Uuid,
    pub(crate) document: Uuid,
    pub(crate) headings: Vec<String>,
    pub(crate) start_at: i32,
    pub(crate) end_at: i32,
    pub(crate) content: String,
    pub(crate) base: String,
    pub(crate) name: String,
    pub(crate) version: i32,
    pub(crate) url: Option<String>,
    pub(crate) updated_at: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy)]
enum Table {
    Memory,
    Chunk,
}

/// What searches keep between them.
pub(crate) struct Searches {
    lanes: Lanes,
    together: Together,
    kept: Kept,
    pool: PgPool,
    populations: Populations,
    exact_rows_max: u32,
}

impl Searches {
    /// Vectors are kept in so many bytes; 0: none.
    pub(crate) fn new(pool: &PgPool, connections_max: u32, exact_rows_max: u32, kept_bytes: usize) -> Self {
        Self {
            lanes: Lanes::new(pool.clone(), connections_max),
            together: Together::default(),
            kept: Kept::new(exact_rows_max, kept_bytes),
            pool: pool.clone(),
            populations: Populations::default(),
            exact_rows_max,
        }
    }

    /// Candidates among the memories; nothing that is superseded (unless asked for) or expired.
    pub(crate) async fn memories(
        &self,
        asked: &Asked<'_>,
        filter: Filter<'_>,
    ) -> Result<Vec<Candidate<Row>>, sqlx::Error> {
        let Some(lists) = lists(asked) else {
            return Ok(Vec::new());
        };
        let population = self.population(Table::Memory, asked).await?;
        let mut way = self.way(population, asked, filter.is_selective());
        loop {
            let rows = self.memory_rows(lists, asked, filter, way).await?;
            match way.dearer(&rows, asked) {
                Some(dearer) => way = dearer,
                None => return Ok(rows.into_iter().map(Found::candidate).collect()),
            }
        }
    }

    /// Candidates among the pieces of documents.
    pub(crate) async fn chunks(&self, asked: &Asked<'_>) -> Result<Vec<Candidate<ChunkRow>>, sqlx::Error> {
        let Some(lists) = lists(asked) else {
            return Ok(Vec::new());
        };
        let population = self.population(Table::Chunk, asked).await?;
        let mut way = self.way(population, asked, false);
        loop {
            let rows = self.chunk_rows(lists, asked, way).await?;
            match way.dearer(&rows, asked) {
                Some(dearer) => way = dearer,
                None => return Ok(rows.into_iter().map(Found::candidate).collect()),
            }
        }
    }

    /// Vectors of these memories by the model of `vector`, where there are any.
    pub(crate) async fn embeddings(
        &self,
        tenant: &Tenant,
        vector: &Vector,
        memories: &[Uuid],
    ) -> Result<Embeddings, sqlx::Error> {
        let mut tx = tenant_tx(&self.pool, tenant).await?;
        let rows: Vec<(Uuid, HalfVector)> = sqlx::query_as(statements::embeddings(vector.model.dimensions))
            .bind(tenant.as_str())
            .bind(&*vector.model.name)
            .bind(memories)
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        let numbers = |half: HalfVector| half.as_slice().iter().map(|number| number.to_f32()).collect();
        Ok(rows.into_iter().map(|(id, half)| (id, numbers(half))).collect())
    }

    /// Rings when vectors are to be read into this process.
    pub(crate) fn kept_bell(&self) -> Doorbell {
        self.kept.bell()
    }

    /// Reads the vectors that are worth keeping, and drops those that nobody asks for; how many sets came and went.
    pub(crate) async fn keep(&self) -> Result<usize, sqlx::Error> {
        let dropped = self.kept.sweep();
        let read = self.kept.read_wished(&self.pool, &self.lanes).await?;
        Ok(dropped + read)
    }

    fn way(&self, population: Population, asked: &Asked<'_>, is_filtered: bool) -> Way {
        let method = if population.is_small(self.exact_rows_max, asked.wanted) {
            Method::Exact
        } else if !is_filtered && population.is_in_view(ef_search(asked), asked.wanted) {
            Method::View
        } else {
            Method::Graph
        };
        Way {
            method,
            is_filtered,
            population: population.items as i64,
        }
    }

    async fn memory_rows(
        &self,
        lists: Lists,
        asked: &Asked<'_>,
        filter: Filter<'_>,
        way: Way,
    ) -> Result<Vec<Found<Row>>, sqlx::Error> {
        if let (Some(statement), Some(vector)) = (way.plainly(lists, ef_search(asked)), asked.vector) {
            let of = Key {
                tenant: asked.tenant.clone(),
                owners: asked.owners.to_vec(),
                model: Arc::clone(&vector.model.name),
                dimensions: vector.model.dimensions,
            };
            let alike = Alike {
                statement,
                is_kept: way.method == Method::Exact && self.kept.has(&of, way.population),
                of: Arc::new(of),
                wanted: asked.wanted,
                read: asked.read,
                superseded: filter.filters.superseded,
            };
            let (lanes, kept) = (&self.lanes, &self.kept);
            return self.together.rows(lanes, kept, alike, vector.half(), filter.now).await;
        }
        let question = || {
            let query = sqlx::query(statements::memories(lists));
            let query = filtered(query.bind(asked.tenant.as_str()).bind(asked.owners), filter);
            let query = worded(query.bind(asked.wanted.cast_signed()), asked, way);
            match asked.vector {
                Some(vector) => near_memories(query, vector, asked, way),
                None => query,
            }
        };
        let rows = self.lanes.fetch(question).await?;
        rows.iter().map(Found::read).collect()
    }

    async fn chunk_rows(&self, lists: Lists, asked: &Asked<'_>, way: Way) -> Result<Vec<Found<ChunkRow>>, sqlx::Error> {
        let question = || {
            let query = sqlx::query(statements::chunks(lists));
            let query = query.bind(asked.tenant.as_str()).bind(asked.owners);
            let query = worded(query.bind(asked.wanted.cast_signed()), asked, way);
            match asked.vector {
                Some(vector) => near(query, vector, asked, way),
                None => query,
            }
        };
        let rows = self.lanes.fetch(question).await?;
        rows.iter().map(Found::read).collect()
    }

    async fn population(&self, table: Table, asked: &Asked<'_>) -> Result<Population, sqlx::Error> {
        let dimensions = asked.vector.map_or(Dimensions::D384, |vector| vector.model.dimensions);
        let key = format!(
            "{table:?} {} {} {}",
            dimensions.count(),
            asked.tenant,
            asked.owners.join("\0")
        );
        if let Some(known) = self.populations.get(&key) {
            return Ok(known);
        }
        let statement = match table {
            Table::Memory => statements::memories_population(dimensions),
            Table::Chunk => statements::chunks_population(dimensions),
        };
        let mut tx = tenant_tx(&self.pool, asked.tenant).await?;
        let (items, all): (i64, f64) = sqlx::query_as(statement)
            .bind(asked.tenant.as_str())
            .bind(asked.owners)
            .bind(COUNTED_MAX)
            .fetch_one(&mut *tx)
            .await?;
        tx.commit().await?;
        let population = Population {
            items: items as f64,
            table: all,
        };
        self.populations.put(key, population);
        Ok(population)
    }
}

/// `None`: nothing is asked for.
fn lists(asked: &Asked<'_>) -> Option<Lists> {
    match (asked.vector.map(|vector| vector.model.dimensions), asked.words) {
        (Some(dimensions), Some(_)) => Some(Lists::Both(dimensions)),
        (Some(dimensions), None) => Some(Lists::Near(dimensions)),
        (None, Some(_)) => Some(Lists::Words),
        (None, None) => None,
    }
}

fn ef_search(asked: &Asked<'_>) -> u32 {
    (asked.wanted + asked.wanted / 2).clamp(EF_SEARCH_MIN, EF_SEARCH_MAX)
}

type Question<'q> = Query<'q, Postgres, PgArguments>;

fn filtered<'q>(query: Question<'q>, filter: Filter<'q>) -> Question<'q> {
    let filters = filter.filters;
    query
        .bind(filters.kind.map(MemoryType::as_str))
        .bind(&filters.tags)
        .bind(filters.importance_min)
        .bind(filters.since.map(Timestamp::to_chrono))
        .bind(filters.until.map(Timestamp::to_chrono))
        .bind(filters.invocation.map(|invocation| invocation.to_uuid()))
        .bind(filters.superseded)
        .bind(filter.now.to_chrono())
}

fn worded<'q>(query: Question<'q>, asked: &Asked<'q>, way: Way) -> Question<'q> {
    match asked.words {
        Some(words) => query.bind(words).bind(ITEMS_OF_A_WORD_MAX).bind(way.population),
        None => query,
    }
}

fn near<'q>(query: Question<'q>, vector: &'q Vector, asked: &Asked<'q>, way: Way) -> Question<'q> {
    query
        .bind(&*vector.model.name)
        .bind(vector.half())
        .bind(way.method.as_str())
        .bind(ef_search(asked).cast_signed())
}

fn near_memories<'q>(query: Question<'q>, vector: &'q Vector, asked: &Asked<'q>, way: Way) -> Question<'q> {
    let query = near(query, vector, asked, way).bind(way.is_filtered);
    match asked.words {
        Some(_) => query,
        None => query.bind(asked.read.cast_signed()),
    }
}
