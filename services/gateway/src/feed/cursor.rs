//! Where a reader of one invocation stands, as text in the `id` of an event.

use std::fmt;
use std::str::FromStr;

use mesh_types::{Code, Problem};

/// Steps whose text a cursor may name at once; a worker streams one or a few.
pub(super) const PLACES_MAX: usize = 64;

/// What a reader has: all of the records up to `seq`, the first `part` events of the record after it, and the text of
/// each step that still streams up to a place.
/// On the wire `seq[-part][.step.epoch.attempt.block.offset]…`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) seq: u32,
    pub(crate) part: u32,
    /// One per step, by step.
    pub(crate) inside: Vec<Place>,
}

/// Up to where the text of a step is told; `offset` counts bytes within the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) step: u32,
    pub(crate) epoch: u32,
    pub(crate) attempt: u32,
    pub(crate) block: u32,
    pub(crate) offset: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seq)?;
        if self.part > 0 {
            write!(f, "-{}", self.part)?;
        }
        for Place {
            step,
            epoch,
            attempt,
            block,
            offset,
        } in &self.inside
        {
            write!(f, ".{step}.{epoch}.{attempt}.{block}.{offset}")?;
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let cursor = parse_cursor(text).filter(|cursor| cursor.to_string() == text);
        cursor.ok_or_else(|| {
            Problem::new(Code::InvalidRequest, "that is no event id of this feed")
                .next("send the `id` of the last event that you have, or none to start at the beginning")
        })
    }
}

fn parse_cursor(text: &str) -> Option<Cursor> {
    let (records, places) = match text.split_once('.') {
        Some((records, places)) => (records, Some(places)),
        None => (text, None),
    };
    let (seq, part) = records.split_once('-').unwrap_or((records, "0"));
    let numbers: Vec<&str> = places
        .map(|places| places.splitn(PLACES_MAX * 5 + 1, '.').collect())
        .unwrap_or_default();
    if !numbers.len().is_multiple_of(5) || numbers.len() > PLACES_MAX * 5 {
        return None;
    }
    let inside = numbers.chunks_exact(5).map(parse_place).collect::<Option<Vec<_>>>()?;
    if !inside.is_sorted_by(|one, next| one.step < next.step) {
        return None;
    }
    Some(Cursor {
        seq: seq.parse().ok()?,
        part: part.parse().ok()?,
        inside,
    })
}

fn parse_place(numbers: &[&str]) -> Option<Place> {
    let [step, epoch, attempt, block, offset] = numbers else {
        return None;
    };
    Some(Place {
        step: step.parse().ok()?,
        epoch: epoch.parse().ok()?,
        attempt: attempt.parse().ok()?,
        block: block.parse().ok()?,
        offset: offset.parse().ok()?,
    })
}
