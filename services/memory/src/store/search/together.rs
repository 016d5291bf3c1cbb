//! Searches that wait for a connection go together: one statement answers those that ask the same by other vectors. The
//! statement's own cost is paid once, and what one of them reads is still near when the next one reads it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_types::{Tenant, Timestamp};
use pgvector::HalfVector;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tokio::sync::oneshot;

use super::found::{Found, Item};
use super::lanes::Lanes;
use crate::store::Row;

/// Searches of one statement at most: the first of them waits for the last.
const TOGETHER_MAX: usize = 8;

/// What is asked, but for the vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alike {
    pub(super) statement: &'static str,
    pub(super) tenant: Tenant,
    pub(super) owners: Vec<String>,
    pub(super) model: Arc<str>,
    pub(super) wanted: u32,
    pub(super) read: u32,
    pub(super) superseded: bool,
}

type Rows = Vec<Found<Row>>;

struct Waiting {
    place: u64,
    alike: Alike,
    vector: HalfVector,
    now: Timestamp,
    answer: oneshot::Sender<Rows>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    places: u64,
}

/// Those that wait for a connection.
#[derive(Default)]
pub(super) struct Together(Mutex<Queue>);

impl Together {
    /// The rows of one search, whoever asks for them.
    pub(super) async fn rows(
        &self,
        lanes: &Lanes,
        alike: Alike,
        vector: HalfVector,
        now: Timestamp,
    ) -> Result<Rows, sqlx::Error> {
        loop {
            let (answer, mut answered) = oneshot::channel();
            let place = self.wait(alike.clone(), vector.clone(), now, answer);
            let permit = tokio::select! {
                biased;
                rows = &mut answered => match rows {
                    Ok(rows) => return Ok(rows),
                    // Whoever asked for us failed, or was dropped: that is no answer to us.
                    Err(_) => continue,
                },
                permit = lanes.permit() => permit?,
            };
            let Some(group) = self.take(place) else {
                drop(permit);
                match answered.await {
                    Ok(rows) => return Ok(rows),
                    Err(_) => continue,
                }
            };
            return ask(lanes, group).await;
        }
    }

    fn wait(&self, alike: Alike, vector: HalfVector, now: Timestamp, answer: oneshot::Sender<Rows>) -> u64 {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.places += 1;
        let place = queue.places;
        queue.waiting.push_back(Waiting {
            place,
            alike,
            vector,
            now,
            answer,
        });
        place
    }

    /// The search of that place, and half of those that wait for the same: the rest is left to other connections.
    /// `None`: somebody else has taken it.
    fn take(&self, place: u64) -> Option<Vec<Waiting>> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.waiting.retain(|waiting| !waiting.answer.is_closed());
        let own = queue.waiting.iter().position(|waiting| waiting.place == place)?;
        let own = queue.waiting.remove(own)?;
        let alike = queue.waiting.iter().filter(|waiting| waiting.alike == own.alike);
        let mut left = alike.count().div_ceil(2).min(TOGETHER_MAX - 1);
        let mut group = vec![own];
        while left > 0 {
            let next = queue
                .waiting
                .iter()
                .position(|waiting| waiting.alike == group[0].alike)?;
            group.extend(queue.waiting.remove(next));
            left -= 1;
        }
        Some(group)
    }
}

/// Answers the others, and returns the rows of the first.
async fn ask(lanes: &Lanes, group: Vec<Waiting>) -> Result<Rows, sqlx::Error> {
    let alike = &group[0].alike;
    // The latest: what had expired when one of them was asked must not be seen.
    let now = group
        .iter()
        .map(|waiting| waiting.now)
        .max()
        .unwrap_or(Timestamp::EPOCH);
    let vectors: Vec<&HalfVector> = group.iter().map(|waiting| &waiting.vector).collect();
    let question = || {
        sqlx::query(alike.statement)
            .bind(alike.tenant.as_str())
            .bind(&alike.owners)
            .bind(&*alike.model)
            .bind(vectors.iter().map(|vector| (*vector).clone()).collect::<Vec<_>>())
            .bind(alike.wanted.cast_signed())
            .bind(alike.read.cast_signed())
            .bind(alike.superseded)
            .bind(now.to_chrono())
    };
    let rows = lanes.fetch_on(question).await?;
    let mut answers: Vec<Rows> = group.iter().map(|_| Rows::new()).collect();
    for row in &rows {
        let number = number(row)?;
        if let Some(answer) = answers.get_mut(number) {
            answer.push(Found::read(row)?);
        }
    }
    let mut answers = answers.into_iter();
    let own = answers.next().unwrap_or_default();
    for (waiting, rows) in group.into_iter().skip(1).zip(answers) {
        // Gone meanwhile: nobody misses it.
        let _ = waiting.answer.send(rows);
    }
    Ok(own)
}

/// Which of the vectors a row is for, from 0; Postgres counts from 1.
fn number(row: &PgRow) -> Result<usize, sqlx::Error> {
    let number: i64 = row.try_get(Row::COLUMNS + super::found::FACTS)?;
    Ok(usize::try_from(number - 1).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alike(owner: &str) -> Alike {
        Alike {
            statement: "",
            tenant: Tenant::default(),
            owners: vec![owner.to_owned()],
            model: "m".into(),
            wanted: 15,
            read: 10,
            superseded: false,
        }
    }

    fn join(together: &Together, owner: &str) -> (u64, oneshot::Receiver<Rows>) {
        let (answer, answered) = oneshot::channel();
        let vector = HalfVector::from_f32_slice(&[1.0]);
        (together.wait(alike(owner), vector, Timestamp::EPOCH, answer), answered)
    }

    fn places(group: Option<Vec<Waiting>>) -> Vec<u64> {
        group.into_iter().flatten().map(|waiting| waiting.place).collect()
    }

    #[test]
    fn half_of_those_that_ask_the_same_go_with_the_first() {
        let together = Together::default();
        let waiting: Vec<_> = ["a", "a", "b", "a", "a", "a"]
            .map(|owner| join(&together, owner))
            .into();
        assert_eq!(places(together.take(1)), [1, 2, 4]);
        assert!(together.take(2).is_none(), "it went with the first");
        assert_eq!(places(together.take(5)), [5, 6]);
        assert_eq!(places(together.take(3)), [3]);
        drop(waiting);
    }

    #[test]
    fn who_has_left_is_not_searched_for_and_a_group_has_its_limit() {
        let together = Together::default();
        let first = join(&together, "a");
        drop(join(&together, "a"));
        let others: Vec<_> = (0..40).map(|_| join(&together, "a")).collect();
        let group = places(together.take(first.0));
        assert_eq!((group.len(), group[0], group[1]), (TOGETHER_MAX, 1, 3));
        drop(others);
    }
}
