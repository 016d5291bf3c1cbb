//! Where a reader of one invocation stands, as text in the `id` of an event.

use std::fmt;
use std::str::FromStr;

use mesh_types::{Code, Problem};

/// What a reader has: all records up to `seq` and, inside a step that streams, its text up to a place.
/// On the wire `seq` or `seq.step.epoch.attempt.block.offset`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) seq: u32,
    pub(crate) inside: Option<Place>,
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
        if let Some(Place {
            step,
            epoch,
            attempt,
            block,
            offset,
        }) = self.inside
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
    let parts: Vec<&str> = text.splitn(7, '.').collect();
    let inside = match parts.as_slice() {
        [_] => None,
        [_, step, epoch, attempt, block, offset] => Some(Place {
            step: step.parse().ok()?,
            epoch: epoch.parse().ok()?,
            attempt: attempt.parse().ok()?,
            block: block.parse().ok()?,
            offset: offset.parse().ok()?,
        }),
        _ => return None,
    };
    Some(Cursor {
        seq: parts.first()?.parse().ok()?,
        inside,
    })
}
