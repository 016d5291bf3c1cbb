//! How one search is run, and what is tried when it finds too little.

use super::found::Found;
use super::statements::{self, Lists, Plain};
use super::{Asked, EF_SEARCH_MIN};

/// How the nearest vectors are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// Sorts all vectors of the owners: recall 1, cost grows with them.
    Exact,
    /// One look at HNSW: for owners who have so much of the table that what it has in view is enough.
    View,
    /// HNSW with iterative scans: may miss some, cost nearly constant while the owners have much of the table.
    Graph,
}

impl Method {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::View => "view",
            Self::Graph => "graph",
        }
    }
}

/// How a statement is run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub(super) method: Method,
    /// Whether the filters count before the nearest are cut off.
    pub(super) is_filtered: bool,
    pub(super) population: i64,
}

impl Way {
    /// The statement that needs nothing but the settings of the connection, where there is one.
    pub(super) fn plainly(self, lists: Lists, ef_search: u32) -> Option<Plain> {
        match (lists, self.method) {
            _ if self.is_filtered => None,
            (Lists::Near(dimensions), Method::Exact) => Some(statements::memories_sorted(dimensions)),
            (Lists::Near(dimensions), Method::View) if ef_search == EF_SEARCH_MIN => {
                Some(statements::memories_in_view(dimensions))
            }
            _ => None,
        }
    }

    /// The next way to try, when what was found is too little. The last one is exact and filtered.
    pub(super) fn dearer<T>(self, rows: &[Found<T>], asked: &Asked<'_>) -> Option<Self> {
        if asked.vector.is_none() || !self.is_short(rows, asked) {
            return None;
        }
        Some(match self.method {
            Method::View => Self {
                method: Method::Graph,
                ..self
            },
            Method::Graph | Method::Exact => Self {
                method: Method::Exact,
                is_filtered: true,
                ..self
            },
        })
    }

    /// Whether another way may find more: the graph gives up after so many vectors, and of a full list that nothing was
    /// kept from, too many rows may turn out to be superseded or expired.
    fn is_short<T>(self, rows: &[Found<T>], asked: &Asked<'_>) -> bool {
        // Without a row nobody knows how many were listed.
        let is_full = rows.first().is_none_or(|row| row.listed >= i64::from(asked.wanted));
        match self.method {
            Method::View | Method::Graph if !is_full => true,
            _ if self.is_filtered || !is_full => false,
            _ => rows.iter().filter(|row| row.of.is_near).count() < asked.enough as usize,
        }
    }
}
