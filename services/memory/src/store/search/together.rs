//! Searches that wait for a connection go together: one statement answers those that ask the same by other vectors. The
//! statement's own cost is paid once, and what one of them reads is still near when the next one reads it.
//!
//! Those that sort all of an owner's vectors read them once for all, so they wait for each other on purpose: while one
//! statement is under way, who comes joins the next, until enough wait to be worth another connection.

mod queue;

use std::sync::Arc;

use mesh_types::Timestamp;
use pgvector::HalfVector;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, Row as _};
use tokio::sync::oneshot;

use super::found::{Found, Item};
use super::kept::{Kept, Key, Questions};
use super::lanes::Lanes;
use super::statements::{Plain, SORTED_TOGETHER};
use crate::store::Row;
use queue::{Queue, Turn, Waiting};

/// What is asked, but for the vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alike {
    pub(super) statement: Plain,
    pub(super) of: Arc<Key>,
    /// Whether their vectors are kept here; where that fails, the statement answers.
    pub(super) is_kept: bool,
    pub(super) wanted: u32,
    pub(super) read: u32,
    pub(super) superseded: bool,
}

impl Alike {
    /// Whether several are less work than each by itself, so that they wait for each other.
    fn shares(&self) -> bool {
        !self.is_kept && self.statement.together.is_some()
    }
}

type Rows = Vec<Found<Row>>;

/// Those that wait.
#[derive(Default)]
pub(super) struct Together(Queue);

impl Together {
    /// The rows of one search, whoever asks for them.
    pub(super) async fn rows(
        &self,
        lanes: &Lanes,
        kept: &Kept,
        alike: Alike,
        vector: HalfVector,
        now: Timestamp,
    ) -> Result<Rows, sqlx::Error> {
        loop {
            let (answer, mut answered) = oneshot::channel();
            let (place, turn) = self.0.join(alike.clone(), vector.clone(), now, answer);
            let lead = match turn {
                Turn::Now(lead) => lead,
                Turn::Later(promoted) => tokio::select! {
                    biased;
                    rows = &mut answered => match rows {
                        Ok(rows) => return Ok(rows),
                        // Whoever asked for us failed, or was dropped: that is no answer to us.
                        Err(_) => continue,
                    },
                    Ok(lead) = promoted => Some(lead),
                },
            };
            let permit = tokio::select! {
                biased;
                rows = &mut answered => match rows {
                    Ok(rows) => return Ok(rows),
                    Err(_) => continue,
                },
                permit = lanes.permit() => permit?,
            };
            let Some(group) = self.0.take(place) else {
                drop((permit, lead));
                match answered.await {
                    Ok(rows) => return Ok(rows),
                    Err(_) => continue,
                }
            };
            return ask(lanes, kept, group).await;
        }
    }
}

/// Answers the others, and returns the rows of the first.
async fn ask(lanes: &Lanes, kept: &Kept, group: Vec<Waiting>) -> Result<Rows, sqlx::Error> {
    let answers = match by_kept(lanes, kept, &group).await? {
        Some(answers) => answers,
        None => by_statement(lanes, &group).await?,
    };
    let mut answers = answers.into_iter();
    let own = answers.next().unwrap_or_default();
    for (waiting, rows) in group.into_iter().skip(1).zip(answers) {
        // Gone meanwhile: nobody misses it.
        let _ = waiting.answer.send(rows);
    }
    Ok(own)
}

async fn by_kept(lanes: &Lanes, kept: &Kept, group: &[Waiting]) -> Result<Option<Vec<Rows>>, sqlx::Error> {
    let alike = &group[0].alike;
    if !alike.is_kept {
        return Ok(None);
    }
    let numbers = |waiting: &Waiting| waiting.vector.as_slice().iter().map(|half| half.to_f32()).collect();
    let asked = Questions {
        key: &alike.of,
        vectors: group.iter().map(numbers).collect(),
        wanted: alike.wanted,
        read: alike.read,
        superseded: alike.superseded,
        now: latest(group),
    };
    kept.answers(lanes, &asked).await
}

async fn by_statement(lanes: &Lanes, group: &[Waiting]) -> Result<Vec<Rows>, sqlx::Error> {
    let rows = lanes.fetch_on(|| question(group)).await?;
    let mut answers: Vec<Rows> = group.iter().map(|_| Rows::new()).collect();
    for row in &rows {
        let number = number(row)?;
        if let Some(answer) = answers.get_mut(number) {
            answer.push(Found::read(row)?);
        }
    }
    Ok(answers)
}

/// What had expired when one of them was asked must not be seen.
fn latest(group: &[Waiting]) -> Timestamp {
    let now = group.iter().map(|waiting| waiting.now).max();
    now.unwrap_or(Timestamp::EPOCH)
}

fn question(group: &[Waiting]) -> Query<'_, Postgres, PgArguments> {
    let alike = &group[0].alike;
    let of = &alike.of;
    let shared = alike.statement.together.filter(|_| group.len() > 1);
    let mut query = sqlx::query(shared.unwrap_or(alike.statement.alone))
        .bind(of.tenant.as_str())
        .bind(&of.owners)
        .bind(&*of.model);
    if shared.is_some() {
        for number in 0..SORTED_TOGETHER {
            query = query.bind(group.get(number).map(|waiting| waiting.vector.clone()));
        }
    } else {
        query = query.bind(group.iter().map(|waiting| waiting.vector.clone()).collect::<Vec<_>>());
    }
    let query = query
        .bind(alike.wanted.cast_signed())
        .bind(alike.read.cast_signed())
        .bind(alike.superseded)
        .bind(latest(group).to_chrono());
    match shared {
        Some(_) => query.bind(i64::try_from(group.len()).unwrap_or(1)),
        None => query,
    }
}

/// Which of the vectors a row is for, from 0; Postgres counts from 1.
fn number(row: &PgRow) -> Result<usize, sqlx::Error> {
    let number: i64 = row.try_get(Row::COLUMNS + super::found::FACTS)?;
    Ok(usize::try_from(number - 1).unwrap_or(usize::MAX))
}
