//! A row of a search, as the statements answer it.

use mesh_types::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row as _};
use uuid::Uuid;

use super::ChunkRow;
use crate::rank::{Candidate, Match};
use crate::store::Row;

/// One row of either statement.
pub(super) struct Found<T> {
    pub(super) item: T,
    pub(super) of: Match,
    /// How many of the nearest there were before those that must not be seen were left out.
    pub(super) listed: i64,
}

/// Columns that follow those of the item: `share`, `distance`, `is_near` and `listed`.
pub(super) const FACTS: usize = 4;

/// What is found.
pub(super) trait Item: Sized {
    /// How many columns are its own; they come first.
    const COLUMNS: usize;
    /// From these columns.
    fn read(row: &PgRow) -> Result<Self, sqlx::Error>;
    /// Id, importance, and when it came.
    fn facts(&self) -> (Uuid, f64, Timestamp);
}

impl Item for Row {
    const COLUMNS: usize = 19;

    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Self::first(row)
    }

    fn facts(&self) -> (Uuid, f64, Timestamp) {
        (self.id, self.importance, self.created_at.into())
    }
}

impl Item for ChunkRow {
    const COLUMNS: usize = 11;

    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Self::from_row(row)
    }

    fn facts(&self) -> (Uuid, f64, Timestamp) {
        (self.id, 0.0, self.updated_at.into())
    }
}

impl<T: Item> Found<T> {
    /// Of either statement: the item, then its [`FACTS`].
    pub(super) fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let item = T::read(row)?;
        let (id, importance, created_at) = item.facts();
        let facts = T::COLUMNS;
        let distance: Option<f64> = row.try_get(facts + 1)?;
        let of = Match {
            id,
            similarity: distance.map(|distance| 1.0 - distance),
            is_near: row.try_get(facts + 2)?,
            share: row.try_get(facts)?,
            importance,
            created_at,
        };
        let listed = row.try_get(facts + 3)?;
        Ok(Self { item, of, listed })
    }
}

impl<T> Found<T> {
    pub(super) fn candidate(self) -> Candidate<T> {
        let Self { item, of, .. } = self;
        Candidate { item, of }
    }
}
