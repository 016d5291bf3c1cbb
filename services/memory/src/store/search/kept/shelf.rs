//! Which sets are kept, and which are worth a reading. Pure: time comes as an argument.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// Searched again within this time, a set is worth reading.
const AGAIN: Duration = Duration::from_secs(10);
/// Unused for so long, a set is dropped: also what was erased must not stay.
const UNUSED_MAX: Duration = Duration::from_secs(60);
/// A set used within this time makes no room for another: with more sets in use than there is room for, each would be
/// dropped before it is of use.
const IN_USE: Duration = Duration::from_secs(5);
/// Until what turned out too large, or found no room, is tried again.
const REFUSED: Duration = Duration::from_secs(60);
/// Until what could not be brought up to date is read anew.
const FORGOTTEN: Duration = Duration::from_secs(2);
/// A reading that takes longer is lost.
const READING_MAX: Duration = Duration::from_secs(30);
/// Keys that are remembered without a set.
const NOTED_MAX: usize = 10_000;
/// Readings that wait; with more, searches go on as before.
const WISHES_MAX: usize = 64;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look<T> {
    Kept(T),
    /// It is time to read it, and nobody does: a wish was noted.
    Read,
    /// Neither kept nor worth it yet.
    Pass,
}

#[derive(Debug, Clone, Copy)]
enum Note {
    Searched(Instant),
    Reading(Instant),
    RestsUntil(Instant),
}

#[derive(Debug)]
struct Held<T> {
    set: T,
    bytes: usize,
    used: Instant,
}

/// The kept sets, within a budget.
#[derive(Debug)]
pub(super) struct Shelf<K, T> {
    bytes_max: usize,
    bytes: usize,
    kept: HashMap<K, Held<T>>,
    notes: HashMap<K, Note>,
    wishes: Vec<K>,
}

impl<K: Hash + Eq + Clone, T: Clone> Shelf<K, T> {
    /// Budget 0: nothing is ever kept.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            kept: HashMap::new(),
            notes: HashMap::new(),
            wishes: Vec::new(),
        }
    }

    /// For a search.
    pub(super) fn look(&mut self, key: &K, now: Instant) -> Look<T> {
        if self.bytes_max == 0 {
            return Look::Pass;
        }
        if let Some(held) = self.kept.get_mut(key) {
            held.used = now;
            return Look::Kept(held.set.clone());
        }
        let is_wanted = match self.notes.get(key) {
            Some(Note::Searched(at)) => now.duration_since(*at) < AGAIN,
            Some(Note::Reading(since)) if now.duration_since(*since) < READING_MAX => return Look::Pass,
            Some(Note::RestsUntil(until)) if now < *until => return Look::Pass,
            Some(Note::Reading(_) | Note::RestsUntil(_)) | None => false,
        };
        if is_wanted && self.wishes.len() < WISHES_MAX {
            self.wishes.push(key.clone());
            self.note(key, Note::Reading(now));
            Look::Read
        } else {
            self.note(key, Note::Searched(now));
            Look::Pass
        }
    }

    /// As it is kept now; no search.
    pub(super) fn get(&self, key: &K) -> Option<T> {
        self.kept.get(key).map(|held| held.set.clone())
    }

    /// What is to be read; each must end in [`Shelf::put`], [`Shelf::refuse`] or [`Shelf::forget`].
    pub(super) fn take_wishes(&mut self) -> Vec<K> {
        std::mem::take(&mut self.wishes)
    }

    /// Keeps what was read, if it finds room beside those in use.
    pub(super) fn put(&mut self, key: &K, set: T, bytes: usize, now: Instant) -> bool {
        self.notes.remove(key);
        self.drop_set(key);
        let is_used = |held: &Held<T>| now.duration_since(held.used) < IN_USE;
        let in_use: usize = self
            .kept
            .values()
            .filter(|held| is_used(held))
            .map(|held| held.bytes)
            .sum();
        if in_use.saturating_add(bytes) > self.bytes_max {
            self.refuse(key, now);
            return false;
        }
        while self.bytes + bytes > self.bytes_max {
            let oldest = self.kept.iter().min_by_key(|(_, held)| held.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            self.drop_set(&oldest);
        }
        self.bytes += bytes;
        let used = now;
        self.kept.insert(key.clone(), Held { set, bytes, used });
        true
    }

    /// What a kept set became; when it was used stays as it was. Not if it was dropped meanwhile.
    pub(super) fn replace(&mut self, key: &K, set: T, bytes: usize) {
        let others = self.bytes - self.kept.get(key).map_or(0, |held| held.bytes);
        if others.saturating_add(bytes) > self.bytes_max {
            self.drop_set(key);
        } else if let Some(held) = self.kept.get_mut(key) {
            held.set = set;
            held.bytes = bytes;
            self.bytes = others + bytes;
        }
    }

    /// It cannot be brought up to date: soon it may be read anew.
    pub(super) fn forget(&mut self, key: &K, now: Instant) {
        self.drop_set(key);
        self.note(key, Note::RestsUntil(now + FORGOTTEN));
    }

    /// Nothing to keep: too large, or it cannot be confirmed.
    pub(super) fn refuse(&mut self, key: &K, now: Instant) {
        self.drop_set(key);
        self.note(key, Note::RestsUntil(now + REFUSED));
    }

    /// Drops what is unused, and forgets old notes. Answers how many sets went.
    pub(super) fn sweep(&mut self, now: Instant) -> usize {
        let unused: Vec<K> = self
            .kept
            .iter()
            .filter(|(_, held)| now.duration_since(held.used) >= UNUSED_MAX)
            .map(|(key, _)| key.clone())
            .collect();
        for key in &unused {
            self.drop_set(key);
        }
        self.notes.retain(|_, note| match note {
            Note::Searched(at) => now.duration_since(*at) < AGAIN,
            Note::Reading(since) => now.duration_since(*since) < READING_MAX,
            Note::RestsUntil(until) => now < *until,
        });
        unused.len()
    }

    fn note(&mut self, key: &K, note: Note) {
        if self.notes.len() >= NOTED_MAX {
            self.notes.clear();
        }
        self.notes.insert(key.clone(), note);
    }

    fn drop_set(&mut self, key: &K) {
        if let Some(held) = self.kept.remove(key) {
            self.bytes -= held.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn shelf() -> (Shelf<u8, char>, Instant) {
        (Shelf::new(100), Instant::now())
    }

    #[test]
    fn the_second_search_within_some_seconds_wishes_for_a_set_once() {
        let (mut shelf, now) = shelf();
        assert_eq!(shelf.look(&1, now), Look::Pass);
        assert_eq!(shelf.look(&1, now + AGAIN), Look::Pass, "too late");
        assert_eq!(shelf.look(&2, now + AGAIN), Look::Pass, "another one");
        assert_eq!(shelf.look(&1, now + AGAIN + SECOND), Look::Read);
        assert_eq!(shelf.look(&1, now + AGAIN + SECOND), Look::Pass, "it is being read");
        assert_eq!((shelf.take_wishes(), shelf.take_wishes()), (vec![1], vec![]));
        assert!(shelf.put(&1, 'a', 10, now));
        assert_eq!(shelf.look(&1, now), Look::Kept('a'));
    }

    #[test]
    fn a_reading_that_was_lost_is_wished_for_again() {
        let (mut shelf, now) = shelf();
        shelf.look(&1, now);
        assert_eq!(shelf.look(&1, now), Look::Read);
        let later = now + READING_MAX;
        assert_eq!(shelf.look(&1, later), Look::Pass);
        assert_eq!(shelf.look(&1, later), Look::Read);
    }

    #[test]
    fn what_was_refused_or_forgotten_rests() {
        for (rest, change) in [
            (REFUSED, Shelf::refuse as fn(&mut Shelf<u8, char>, &u8, Instant)),
            (FORGOTTEN, Shelf::forget),
        ] {
            let (mut shelf, now) = shelf();
            shelf.put(&1, 'a', 10, now);
            change(&mut shelf, &1, now);
            assert_eq!((shelf.get(&1), shelf.bytes), (None, 0));
            for _ in 0..3 {
                assert_eq!(shelf.look(&1, now + rest - SECOND), Look::Pass);
            }
            assert_eq!(shelf.look(&1, now + rest), Look::Pass);
            assert_eq!(shelf.look(&1, now + rest), Look::Read);
        }
    }

    #[test]
    fn the_longest_unused_makes_room_and_what_is_in_use_does_not() {
        let (mut shelf, now) = shelf();
        for (key, at) in [(1, now), (2, now + SECOND), (3, now + SECOND)] {
            assert!(shelf.put(&key, 'x', 30, at));
        }
        shelf.look(&1, now + SECOND * 2);
        assert!(!shelf.put(&4, 'x', 30, now + SECOND * 3), "all are in use");
        assert!(shelf.put(&4, 'x', 30, now + SECOND + IN_USE));
        let kept: Vec<bool> = (1..=4).map(|key| shelf.get(&key).is_some()).collect();
        assert!(kept[0] && kept[3] && (kept[1] != kept[2]), "{kept:?}");
        assert!(!shelf.put(&5, 'x', 101, now + SECOND * 100), "larger than all room");
    }

    #[test]
    fn what_nobody_uses_goes_within_a_minute() {
        let (mut shelf, now) = shelf();
        shelf.put(&1, 'a', 10, now);
        shelf.put(&2, 'b', 10, now);
        shelf.look(&2, now + SECOND);
        shelf.replace(&1, 'c', 20);
        assert_eq!(shelf.sweep(now + UNUSED_MAX), 1, "a change is no use");
        assert_eq!((shelf.get(&1), shelf.get(&2), shelf.bytes), (None, Some('b'), 10));
        shelf.replace(&1, 'd', 20);
        assert_eq!(shelf.get(&1), None, "it was dropped meanwhile");
    }

    #[test]
    fn without_a_budget_nothing_is_noted() {
        let mut shelf: Shelf<u8, char> = Shelf::new(0);
        let now = Instant::now();
        assert!((0..5).all(|_| shelf.look(&1, now) == Look::Pass));
        assert!(shelf.notes.is_empty() && shelf.take_wishes().is_empty());
    }

    proptest! {
        #[test]
        fn it_never_holds_more_than_its_budget(
            steps in prop::collection::vec((0_u8..7, 0_u8..12, 0_usize..60, 0_u32..20), 1..200)
        ) {
            let (mut shelf, mut now) = shelf();
            for (what, key, bytes, pause) in steps {
                now += SECOND * pause;
                match what {
                    0 | 1 => _ = shelf.put(&key, 'x', bytes, now),
                    2 => shelf.replace(&key, 'y', bytes),
                    3 => shelf.forget(&key, now),
                    4 => _ = shelf.sweep(now),
                    5 => _ = shelf.take_wishes(),
                    _ => _ = shelf.look(&key, now),
                }
                let bytes: usize = shelf.kept.values().map(|held| held.bytes).sum();
                prop_assert!(bytes <= 100);
                prop_assert_eq!(bytes, shelf.bytes);
                prop_assert!(shelf.wishes.len() <= WISHES_MAX);
            }
        }
    }
}
