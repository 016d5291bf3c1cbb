//! Who waits, and whose turn it is to ask for others too.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_types::Timestamp;
use pgvector::HalfVector;
use tokio::sync::oneshot;

use super::{Alike, Rows};
use crate::store::search::statements::SORTED_TOGETHER;

/// Searches of one statement at most: the first of them waits for the last.
const TOGETHER_MAX: usize = SORTED_TOGETHER;
/// So many must wait for each statement that is under way before another begins: fewer share too little, and with one
/// statement at a time the other cores wait.
const WORTH_ANOTHER: usize = 3;

pub(super) struct Waiting {
    place: u64,
    pub(super) alike: Alike,
    pub(super) vector: HalfVector,
    pub(super) now: Timestamp,
    pub(super) answer: oneshot::Sender<Rows>,
    /// Of one that waits for a statement under way: it is told when it may ask.
    promote: Option<oneshot::Sender<Lead>>,
}

/// When a search may ask for a connection.
pub(super) enum Turn {
    Now(Option<Lead>),
    Later(oneshot::Receiver<Lead>),
}

/// The right to ask for those that share one reading; dropped, it goes to the first who waits.
pub(super) struct Lead {
    waiting: Arc<Mutex<State>>,
    alike: Alike,
}

#[derive(Default)]
pub(super) struct State {
    waiting: VecDeque<Waiting>,
    places: u64,
    /// One entry for each [`Lead`] there is.
    leads: Vec<Alike>,
}

#[derive(Default)]
pub(super) struct Queue(Arc<Mutex<State>>);

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    pub(super) fn join(
        &self,
        alike: Alike,
        vector: HalfVector,
        now: Timestamp,
        answer: oneshot::Sender<Rows>,
    ) -> (u64, Turn) {
        let mut state = lock(&self.0);
        state.places += 1;
        let place = state.places;
        let (promote, turn) = if !alike.shares() {
            (None, Turn::Now(None))
        } else if state.may_lead(&alike, 1) {
            state.leads.push(alike.clone());
            let waiting = Arc::clone(&self.0);
            let alike = alike.clone();
            (None, Turn::Now(Some(Lead { waiting, alike })))
        } else {
            let (promote, promoted) = oneshot::channel();
            (Some(promote), Turn::Later(promoted))
        };
        state.waiting.push_back(Waiting {
            place,
            alike,
            vector,
            now,
            answer,
            promote,
        });
        (place, turn)
    }

    /// The search of that place with those that go with it: all that wait for the same where they share the reading,
    /// else half of them, and the rest is left to other connections. `None`: somebody else has taken it.
    pub(super) fn take(&self, place: u64) -> Option<Vec<Waiting>> {
        let mut state = lock(&self.0);
        state.waiting.retain(|waiting| !waiting.answer.is_closed());
        let own = state.waiting.iter().position(|waiting| waiting.place == place)?;
        let own = state.waiting.remove(own)?;
        let alike = state
            .waiting
            .iter()
            .filter(|waiting| waiting.alike == own.alike)
            .count();
        let shares = own.alike.shares();
        let others = if shares { alike } else { alike.div_ceil(2) };
        let mut group = vec![own];
        for _ in 0..others.min(TOGETHER_MAX - 1) {
            let next = state
                .waiting
                .iter()
                .position(|waiting| waiting.alike == group[0].alike)?;
            group.extend(state.waiting.remove(next));
        }
        Some(group)
    }
}

impl State {
    /// Whether another statement of these may begin, for those who wait and so many who come.
    fn may_lead(&self, alike: &Alike, coming: usize) -> bool {
        let leads = self.leads.iter().filter(|lead| *lead == alike).count();
        self.left(alike).count() + coming >= WORTH_ANOTHER * leads
    }

    /// Those who wait for a statement under way.
    fn left<'a>(&'a self, alike: &'a Alike) -> impl Iterator<Item = &'a Waiting> {
        self.waiting
            .iter()
            .filter(move |waiting| waiting.promote.is_some() && !waiting.answer.is_closed() && waiting.alike == *alike)
    }

    /// Who may ask next, if somebody may.
    fn promoted(&mut self, alike: &Alike) -> Option<oneshot::Sender<Lead>> {
        if !self.may_lead(alike, 0) {
            return None;
        }
        let place = self.left(alike).next()?.place;
        let next = self.waiting.iter_mut().find(|waiting| waiting.place == place)?;
        let promote = next.promote.take()?;
        self.leads.push(alike.clone());
        Some(promote)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut state = lock(&self.waiting);
        if let Some(at) = state.leads.iter().position(|lead| *lead == self.alike) {
            state.leads.swap_remove(at);
        }
        let promoted = state.promoted(&self.alike);
        drop(state);
        if let Some(promoted) = promoted {
            // Refused by who has left meanwhile, it is dropped there, and so goes on to the next.
            let _ = promoted.send(Lead {
                waiting: Arc::clone(&self.waiting),
                alike: self.alike.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_types::Tenant;

    use super::*;
    use crate::embed::Dimensions;
    use crate::store::search::kept::Key;
    use crate::store::search::statements::Plain;

    fn alike(owner: &str, shares: bool) -> Alike {
        Alike {
            statement: Plain {
                alone: "",
                together: shares.then_some(""),
            },
            of: Arc::new(Key {
                tenant: Tenant::default(),
                owners: vec![owner.to_owned()],
                model: "m".into(),
                dimensions: Dimensions::D384,
            }),
            is_kept: false,
            wanted: 15,
            read: 10,
            superseded: false,
        }
    }

    fn join(queue: &Queue, alike: Alike) -> (u64, Turn, oneshot::Receiver<Rows>) {
        let (answer, answered) = oneshot::channel();
        let (place, turn) = queue.join(alike, HalfVector::from_f32_slice(&[1.0]), Timestamp::EPOCH, answer);
        (place, turn, answered)
    }

    fn places(group: Option<Vec<Waiting>>) -> Vec<u64> {
        group.into_iter().flatten().map(|waiting| waiting.place).collect()
    }

    #[test]
    fn half_of_those_that_ask_the_same_go_with_the_first() {
        let queue = Queue::default();
        let waiting: Vec<_> = ["a", "a", "b", "a", "a", "a"]
            .map(|owner| join(&queue, alike(owner, false)))
            .into();
        assert_eq!(places(queue.take(1)), [1, 2, 4]);
        assert!(queue.take(2).is_none(), "it went with the first");
        assert_eq!(places(queue.take(5)), [5, 6]);
        assert_eq!(places(queue.take(3)), [3]);
        drop(waiting);
    }

    #[test]
    fn who_has_left_is_not_searched_for_and_a_group_has_its_limit() {
        let queue = Queue::default();
        let first = join(&queue, alike("a", false));
        drop(join(&queue, alike("a", false)));
        let others: Vec<_> = (0..40).map(|_| join(&queue, alike("a", false))).collect();
        let group = places(queue.take(first.0));
        assert_eq!((group.len(), group[0], group[1]), (TOGETHER_MAX, 1, 3));
        drop(others);
    }

    #[test]
    fn those_that_share_a_reading_wait_for_the_one_under_way() {
        let queue = Queue::default();
        let (place, Turn::Now(lead), _first) = join(&queue, alike("a", true)) else {
            panic!("nobody is before it");
        };
        assert_eq!(places(queue.take(place)), [1]);
        let (second, Turn::Later(mut promoted), kept) = join(&queue, alike("a", true)) else {
            panic!("the first is under way");
        };
        let third = join(&queue, alike("a", true));
        assert!(matches!(third.1, Turn::Later(_)));
        assert!(
            matches!(join(&queue, alike("b", true)).1, Turn::Now(_)),
            "another owner"
        );
        drop(lead);
        let lead = promoted.try_recv().expect("the first of those who wait");
        assert_eq!(places(queue.take(second)), [2, 3], "and all that wait with it");
        drop((lead, kept, third));
        assert!(lock(&queue.0).leads.is_empty());
    }

    #[test]
    fn so_many_that_they_are_worth_a_statement_get_one() {
        let queue = Queue::default();
        let first = join(&queue, alike("a", true));
        let group = queue.take(first.0);
        let waiting: Vec<_> = (1..WORTH_ANOTHER).map(|_| join(&queue, alike("a", true))).collect();
        assert!(waiting.iter().all(|one| matches!(one.1, Turn::Later(_))));
        let (place, Turn::Now(lead), last) = join(&queue, alike("a", true)) else {
            panic!("they are enough");
        };
        assert_eq!(queue.take(place).map(|group| group.len()), Some(WORTH_ANOTHER));
        let more: Vec<_> = (1..2 * WORTH_ANOTHER).map(|_| join(&queue, alike("a", true))).collect();
        assert!(
            more.iter().all(|one| matches!(one.1, Turn::Later(_))),
            "a third takes twice as many"
        );
        drop((first, group, waiting, lead, last, more));
    }

    #[test]
    fn a_lead_that_nobody_takes_goes_on() {
        let queue = Queue::default();
        let first = join(&queue, alike("a", true));
        let group = queue.take(first.0);
        let gone = join(&queue, alike("a", true));
        let (_, Turn::Later(mut promoted), _kept) = join(&queue, alike("a", true)) else {
            panic!("the first is under way");
        };
        // Its search is still wanted, but who asked it does not listen for its turn.
        let (_, Turn::Later(turn), _answered) = gone else {
            panic!("the first is under way");
        };
        drop(turn);
        drop((first, group));
        assert!(promoted.try_recv().is_ok());
    }
}
