//! Kept vectors: those of owners that are searched again stay in this process's memory, and the nearest are found here.
//! Postgres is asked one cheap statement for each search: are they still the same, and what are the found memories.
//!
//! ```text
//! second search of a key -> wish -> read by a loop, as one snapshot S saw them   (`Shelf`, `Kept::read_wished`)
//! search -> the nearest of the set -> statement, in a snapshot T of its own:     (`Kept::answers`)
//!     no change that T sees and S did not -> the memories, with today's conditions
//!     some changes                        -> they come as T has them; the set becomes one of T; asked once more
//!     nothing can be said                 -> the set is forgotten, the search goes by SQL
//! ```
//!
//! Every statement that changes a vector logs it with its transaction's id, in the same transaction (migration 0023). So
//! a set is what T sees exactly if T sees no logged change that S did not. Changes that were deleted are told by the
//! horizon. Both tables are under row level security; the horizon's row has to be seen, so that a hidden log is not taken
//! for an empty one.

mod halves;
mod near;
mod set;
mod shelf;
mod statements;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_runtime::{Blocking, Doorbell};
use mesh_store::{every_tenant_tx, tenant_tx};
use mesh_types::{Tenant, Timestamp};
use pgvector::HalfVector;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgPool, Postgres, Row as _};
use tokio::time::Instant;
use uuid::Uuid;

use super::found::{FACTS, Found, Item};
use super::lanes::Lanes;
use crate::embed::Dimensions;
use crate::store::Row;
use near::Near;
use set::{Halves, News, Set};
use shelf::{Look, Shelf};

/// Times that a search asks; each time somebody changed a vector meanwhile.
const TRIES: usize = 3;
/// A set whose snapshot is older is told of a later one: changes are not logged for ever.
const RENEWED_AFTER: Duration = Duration::from_secs(30);
/// How long changes are logged, at the least.
const LOGGED: Duration = Duration::from_secs(120);
/// Changes deleted in one transaction.
const PRUNED_MAX: i64 = 50_000;
/// More numbers than this are computed off the runtime's threads: about half a millisecond.
const NUMBERS_INLINE: usize = 2_000_000;

/// Whose vectors, of which model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(super) tenant: Tenant,
    pub(super) owners: Vec<String>,
    pub(super) model: Arc<str>,
    pub(super) dimensions: Dimensions,
}

/// Questions of one set that are answered by one statement.
pub(super) struct Questions<'a> {
    pub(super) key: &'a Key,
    pub(super) vectors: Vec<Vec<f32>>,
    /// Listed of each, and of them read.
    pub(super) wanted: u32,
    pub(super) read: u32,
    pub(super) superseded: bool,
    pub(super) now: Timestamp,
}

type Answers = Vec<Vec<Found<Row>>>;

pub(crate) struct Kept {
    shelf: Mutex<Shelf<Key, Held>>,
    rows_max: u32,
    bytes_max: usize,
    blocking: Blocking,
    bell: Doorbell,
}

#[derive(Debug, Clone)]
struct Held {
    set: Arc<Set>,
    /// When its snapshot was taken.
    at: Instant,
}

impl Kept {
    /// Sets of at most so many rows, in so many bytes; 0: none.
    pub(super) fn new(rows_max: u32, bytes_max: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            shelf: Mutex::new(Shelf::new(bytes_max)),
            rows_max,
            bytes_max,
            blocking: Blocking::with_width(cores),
            bell: Doorbell::new(),
        }
    }

    /// Rings when there is something to read.
    pub(crate) fn bell(&self) -> Doorbell {
        self.bell.clone()
    }

    /// Whether a search may go by a kept set; one that may not counts towards reading it, unless so many rows would be too
    /// large.
    pub(super) fn has(&self, key: &Key, rows: i64) -> bool {
        let Ok(rows) = usize::try_from(rows) else { return false };
        let bytes = rows.saturating_mul(key.dimensions.count() * size_of::<u16>());
        if rows > self.rows_max as usize || bytes > self.bytes_max {
            return false;
        }
        let look = self.shelf().look(key, Instant::now());
        if matches!(look, Look::Read) {
            self.bell.ring();
        }
        matches!(look, Look::Kept(_))
    }

    /// The rows of each question; `None`: they have to be found another way.
    pub(super) async fn answers(&self, lanes: &Lanes, asked: &Questions<'_>) -> Result<Option<Answers>, sqlx::Error> {
        let Some(mut held) = self.shelf().get(asked.key) else {
            return Ok(None);
        };
        let Some(mut lists) = self.nearest(&held.set, asked).await else {
            return Ok(None);
        };
        for _ in 0..TRIES {
            let renew = held.at.elapsed() >= RENEWED_AFTER;
            let started = Instant::now();
            let rows = lanes.fetch_on(|| question(asked, &held.set, &lists, renew)).await?;
            match told(&rows, &lists)? {
                Told::Same(answers, renewed) => {
                    if let Some(snapshot) = renewed {
                        self.replace(asked.key, held.set.renewed(snapshot), started);
                    }
                    return Ok(Some(answers));
                }
                Told::Changed(news, snapshot) => {
                    let set = held.set.changed(&news, snapshot);
                    if set.len() > self.rows_max as usize {
                        self.shelf().refuse(asked.key, Instant::now());
                        return Ok(None);
                    }
                    let merged = merged(&held.set, &lists, &news, asked);
                    held = self.replace(asked.key, set, started);
                    lists = match merged {
                        Some(lists) => lists,
                        None => match self.nearest(&held.set, asked).await {
                            Some(lists) => lists,
                            None => return Ok(None),
                        },
                    };
                }
                Told::Nothing => {
                    self.shelf().forget(asked.key, Instant::now());
                    return Ok(None);
                }
            }
        }
        // Written faster than it is asked.
        Ok(None)
    }

    /// Reads what searches wished for; how many sets are kept by that. Each is read by a connection that searches use.
    pub(super) async fn read_wished(&self, pool: &PgPool, lanes: &Lanes) -> Result<usize, sqlx::Error> {
        let mut count = 0;
        let wishes = self.shelf().take_wishes();
        for (at, key) in wishes.iter().enumerate() {
            let started = Instant::now();
            match self.read(pool, lanes, key).await {
                Ok(Some(set)) => {
                    let bytes = set.bytes();
                    let set = Arc::new(set);
                    let held = Held { set, at: started };
                    count += usize::from(self.shelf().put(key, held, bytes, Instant::now()));
                }
                Ok(None) => self.shelf().refuse(key, Instant::now()),
                Err(error) => {
                    let mut shelf = self.shelf();
                    for key in &wishes[at..] {
                        shelf.forget(key, Instant::now());
                    }
                    return Err(error);
                }
            }
        }
        Ok(count)
    }

    /// Drops what nobody uses any more: also what was erased since.
    pub(super) fn sweep(&self) -> usize {
        self.shelf().sweep(Instant::now())
    }

    /// `None`: too large, or nothing could be said of it later.
    async fn read(&self, pool: &PgPool, lanes: &Lanes, key: &Key) -> Result<Option<Set>, sqlx::Error> {
        let mut tx = tenant_tx(pool, &key.tenant).await?;
        sqlx::query(statements::BEGIN)
            .bind(key.tenant.as_str())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        let rows_max = self.rows_max as usize;
        let question = || {
            sqlx::query(statements::read(key.dimensions))
                .bind(key.tenant.as_str())
                .bind(&key.owners)
                .bind(&*key.model)
                .bind(i64::from(self.rows_max) + 1)
        };
        let rows = lanes.fetch(question).await?;
        let Some(first) = rows.first().filter(|_| rows.len() <= rows_max) else {
            return Ok(None);
        };
        let (snapshot, store): (&str, &str) = (first.try_get(0)?, first.try_get(1)?);
        let mut set = Set::new(key.dimensions.count(), snapshot.into(), store.into());
        for row in &rows {
            if let Some((item, halves)) = row.try_get::<Option<Uuid>, _>(2)?.zip(halves(row, 3)?) {
                set.push(item, &halves);
            }
        }
        Ok(Some(set))
    }

    async fn nearest(&self, set: &Arc<Set>, asked: &Questions<'_>) -> Option<Vec<Vec<Near>>> {
        let wanted = asked.wanted as usize;
        if set.len() * set.dimensions() * asked.vectors.len() <= NUMBERS_INLINE {
            return Some(near::nearest(set, &asked.vectors, wanted));
        }
        let (set, vectors) = (Arc::clone(set), asked.vectors.clone());
        let work = self.blocking.run(move || near::nearest(&set, &vectors, wanted));
        work.await.ok()
    }

    fn replace(&self, key: &Key, set: Set, at: Instant) -> Held {
        let bytes = set.bytes();
        let held = Held { set: Arc::new(set), at };
        self.shelf().replace(key, held.clone(), bytes);
        held
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf<Key, Held>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Deletes changes that no kept set needs, and says so in the horizon; how many.
pub(crate) async fn prune(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let mut pruned = 0;
    loop {
        let mut tx = every_tenant_tx(pool).await?;
        let gone: i64 = sqlx::query_scalar(statements::PRUNE)
            .bind(LOGGED.as_secs_f64())
            .bind(PRUNED_MAX)
            .fetch_one(&mut *tx)
            .await?;
        tx.commit().await?;
        pruned += gone.unsigned_abs();
        if gone < PRUNED_MAX {
            return Ok(pruned);
        }
    }
}

/// What an answer says of a kept set.
enum Told {
    /// Still the same: the rows of each question, and a later snapshot if it was asked for.
    Same(Answers, Option<Arc<str>>),
    /// What changed, as of this snapshot.
    Changed(Vec<News>, Arc<str>),
    Nothing,
}

fn question<'q>(
    asked: &'q Questions<'_>,
    set: &'q Set,
    lists: &[Vec<Near>],
    renew: bool,
) -> Query<'q, Postgres, PgArguments> {
    let key = asked.key;
    // All are of one set, and so of one length.
    let each = lists.first().map_or(0, Vec::len);
    let items: Vec<Uuid> = lists.iter().flatten().map(|near| near.item).collect();
    sqlx::query(statements::ask(key.dimensions))
        .bind(key.tenant.as_str())
        .bind(&key.owners)
        .bind(&*key.model)
        .bind(items)
        .bind(i64::try_from(each).unwrap_or(i64::MAX))
        .bind(i64::from(asked.read))
        .bind(asked.superseded)
        .bind(asked.now.to_chrono())
        .bind(i64::try_from(lists.len()).unwrap_or(i64::MAX))
        .bind(&*set.snapshot)
        .bind(&*set.store)
        .bind(renew)
        .bind(i64::try_from(statements::NEWS_MAX).unwrap_or(i64::MAX) + 1)
}

/// Columns of [`statements::ask`] after those of a row: which question, snapshot, whether it changed, memory, vector.
const NUMBER: usize = Row::COLUMNS + FACTS;

fn told(rows: &[PgRow], lists: &[Vec<Near>]) -> Result<Told, sqlx::Error> {
    let Some(first) = rows.first() else {
        return Ok(Told::Nothing);
    };
    let snapshot: Option<Arc<str>> = first.try_get::<Option<&str>, _>(NUMBER + 1)?.map(Arc::from);
    if first.try_get(NUMBER + 2)? {
        let items: Vec<Option<Uuid>> = rows
            .iter()
            .map(|row| row.try_get(NUMBER + 3))
            .collect::<Result<_, _>>()?;
        let (Some(snapshot), true) = (snapshot, rows.len() <= statements::NEWS_MAX) else {
            return Ok(Told::Nothing);
        };
        let mut news = Vec::with_capacity(rows.len());
        let mut known = BTreeSet::new();
        for (row, item) in rows.iter().zip(items) {
            // Of too many to name them.
            let Some(item) = item else { return Ok(Told::Nothing) };
            if known.insert(item) {
                news.push((item, halves(row, NUMBER + 4)?));
            }
        }
        return Ok(Told::Changed(news, snapshot));
    }
    let mut answers: Answers = lists.iter().map(|_| Vec::new()).collect();
    for row in rows {
        if row.try_get::<Option<Uuid>, _>(0)?.is_none() {
            continue;
        }
        let number: i64 = row.try_get(NUMBER)?;
        let number = usize::try_from(number - 1).unwrap_or(usize::MAX);
        if let (Some(list), Some(answer)) = (lists.get(number), answers.get_mut(number)) {
            let mut found = Found::<Row>::read(row)?;
            let near = list.iter().find(|near| near.item == found.of.id);
            found.of.similarity = near.map(|near| 1.0 - near.distance);
            found.listed = i64::try_from(list.len()).unwrap_or(i64::MAX);
            answer.push(found);
        }
    }
    Ok(Told::Same(answers, snapshot))
}

/// The nearest after some news, without looking through the whole set.
fn merged(set: &Set, lists: &[Vec<Near>], news: &[News], asked: &Questions<'_>) -> Option<Vec<Vec<Near>>> {
    let merge = |(list, vector): (&Vec<Near>, &Vec<f32>)| {
        near::merged(list, news, vector, asked.wanted as usize, list.len() == set.len())
    };
    lists.iter().zip(&asked.vectors).map(merge).collect()
}

fn halves(row: &PgRow, column: usize) -> Result<Option<Halves>, sqlx::Error> {
    let vector: Option<HalfVector> = row.try_get(column)?;
    Ok(vector.map(|vector| vector.as_slice().iter().map(|half| half.to_bits()).collect()))
}
