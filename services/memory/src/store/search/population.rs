//! How many items some owners have: what decides between the exact sort and the graph. Counted now and then, not for
//! each search; a count that is old makes a search slower, never wrong.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Owners counted at most at one time; with more, all are counted anew.
const KEPT_MAX: usize = 10_000;
/// Counting ends here: reading so many entries of an index takes some ten milliseconds.
pub(super) const COUNTED_MAX: i64 = 200_000;
/// A few thousand memories a second can come, so a small owner may soon be no small one.
const FRESH: Duration = Duration::from_secs(5);
/// One that is this large seldom becomes small.
const LARGE: f64 = 20_000.0;
const FRESH_LARGE: Duration = Duration::from_secs(60);

/// Visiting one more vector through the graph costs about as much as this many in an exact sort, and an owner's share
/// of the graph decides how many have to be visited: decision 7 has the measurement.
const VISIT_COST: f64 = 20.0;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Population {
    /// Of the owners, counted no further than [`COUNTED_MAX`].
    pub(super) items: f64,
    /// In the whole table of vectors, roughly.
    pub(super) table: f64,
}

impl Population {
    /// Whether sorting all of the owners' vectors is the better way to so many of the nearest. With `n` of the table's
    /// `N` vectors the graph has to visit about `wanted · N / n`, so the sort is cheaper up to `n² = 20 · wanted · N`.
    pub(super) fn is_small(self, exact_rows_max: u32, wanted: u32) -> bool {
        self.items <= f64::from(exact_rows_max)
            || (self.items < COUNTED_MAX as f64
                && self.items.powi(2) <= VISIT_COST * f64::from(wanted) * self.table.max(self.items))
    }

    /// Whether so many of the owners' can be expected among the `in_view` that one look at the graph brings, and twice as
    /// many on average: neighbours are of the same owner more often than not, but not always.
    pub(super) fn is_in_view(self, in_view: u32, wanted: u32) -> bool {
        let share = self.items / self.table.max(self.items);
        f64::from(in_view) * share >= f64::from(wanted) * 2.0
    }
}

/// Tables and owners that were counted.
#[derive(Debug, Default)]
pub(crate) struct Populations(Mutex<HashMap<String, (Population, Instant)>>);

impl Populations {
    pub(super) fn get(&self, key: &str) -> Option<Population> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (population, at) = kept.get(key)?;
        let fresh = if population.items >= LARGE { FRESH_LARGE } else { FRESH };
        (at.elapsed() < fresh).then_some(*population)
    }

    pub(super) fn put(&self, key: String, population: Population) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(key, (population, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_small(items: f64, table: f64) -> bool {
        Population { items, table }.is_small(10_000, 15)
    }

    #[test]
    fn a_small_owner_is_sorted_and_a_large_share_goes_through_the_graph() {
        assert!(is_small(1_000.0, 100_000.0));
        assert!(is_small(10_000.0, 10_000.0));
        assert!(!is_small(11_000.0, 100_000.0));
        assert!(!is_small(99_000.0, 100_000.0));
        assert!(is_small(17_000.0, 1_000_000.0), "1.7 % of a million");
        assert!(!is_small(18_000.0, 1_000_000.0));
        assert!(!is_small(200_000.0, 1e12), "counted no further");
        assert!(is_small(0.0, -1.0), "a table that was never analysed");
    }

    #[test]
    fn one_look_is_enough_for_who_has_most_of_the_table() {
        let is_in_view = |items, table| Population { items, table }.is_in_view(100, 15);
        assert!(is_in_view(99_000.0, 100_000.0));
        assert!(is_in_view(30_000.0, 100_000.0));
        assert!(!is_in_view(29_000.0, 100_000.0));
        assert!(
            is_in_view(5.0, -1.0),
            "a table that was never analysed has at least these"
        );
        assert!(!is_in_view(0.0, 0.0), "nobody knows");
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_is_kept_for_a_while() {
        let kept = Populations::default();
        let small = Population { items: 5.0, table: 9.0 };
        kept.put("a".into(), small);
        kept.put("b".into(), Population { items: LARGE, ..small });
        assert_eq!(kept.get("a"), Some(small));
        tokio::time::advance(FRESH).await;
        assert_eq!(kept.get("a"), None);
        assert!(kept.get("b").is_some());
        tokio::time::advance(FRESH_LARGE).await;
        assert_eq!(kept.get("b"), None);
    }
}
