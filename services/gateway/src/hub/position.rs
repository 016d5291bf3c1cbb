//! Where a reader of everything stands: a mark in each shard's feed and in EVENTS, as opaque text (EXECUTION §9).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mesh_api::live::SHARDS;
use mesh_types::{Code, Problem};
use sha2::{Digest, Sha256};

const SHARD_COUNT: usize = SHARDS as usize;
/// First byte of the text's bytes: another layout gets another number.
const LAYOUT: u8 = 1;
/// Longest text that is looked at.
const TEXT_BYTES_MAX: usize = 1_024;

/// Where something stands in its lane; everything up to it, and nothing after it, is told.
/// `at` is a batch, or a sequence of EVENTS; `(at + 1, 0, 0)` is all of `at`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) at: u64,
    /// Record within the batch, from 1.
    pub(crate) ordinal: u32,
    /// Push of the record or event, from 1.
    pub(crate) part: u32,
}

impl Mark {
    /// All of `at`.
    pub(crate) const fn whole(at: u64) -> Self {
        Self {
            at: at.saturating_add(1),
            ordinal: 0,
            part: 0,
        }
    }

    /// The last batch or sequence of which all is told.
    pub(crate) const fn done(self) -> u64 {
        self.at.saturating_sub(1)
    }
}

/// One of the orders that are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Shard(u16),
    Events,
}

/// Which feed, which stream: marks of others mean nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Origin(pub(crate) [u8; 8]);

impl Origin {
    /// Of the feed's id, or of the time at which a stream was created.
    pub(crate) fn of(text: &str) -> Self {
        let hash = Sha256::digest(text);
        let mut short = [0; 8];
        short
            .iter_mut()
            .zip(hash.iter())
            .for_each(|(short, byte)| *short = *byte);
        Self(short)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) feed: Origin,
    pub(crate) stream: Origin,
    pub(crate) shards: [Mark; SHARD_COUNT],
    pub(crate) events: Mark,
}

impl Position {
    pub(crate) fn new(feed: Origin, stream: Origin) -> Self {
        Self {
            feed,
            stream,
            shards: [Mark::default(); SHARD_COUNT],
            events: Mark::default(),
        }
    }

    #[cfg(test)]
    pub(crate) fn start() -> Self {
        Self::new(Origin::default(), Origin::default())
    }

    pub(crate) fn mark(&self, lane: Lane) -> Mark {
        match lane {
            Lane::Events => self.events,
            Lane::Shard(shard) => self.shards.get(usize::from(shard)).copied().unwrap_or_default(),
        }
    }

    /// Never lowers.
    pub(crate) fn raise(&mut self, lane: Lane, mark: Mark) {
        let ours = match lane {
            Lane::Events => Some(&mut self.events),
            Lane::Shard(shard) => self.shards.get_mut(usize::from(shard)),
        };
        if let Some(ours) = ours {
            *ours = (*ours).max(mark);
        }
    }

    /// The further of both in every lane.
    pub(crate) fn raise_all(&mut self, other: &Self) {
        for (ours, theirs) in self.shards.iter_mut().zip(other.shards) {
            *ours = (*ours).max(theirs);
        }
        self.events = self.events.max(other.events);
    }

    /// Whether it is at least as far in every lane.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.covers_shards(other) && self.events >= other.events
    }

    pub(crate) fn covers_shards(&self, other: &Self) -> bool {
        self.shards
            .iter()
            .zip(other.shards)
            .all(|(ours, theirs)| *ours >= theirs)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(128);
        bytes.push(LAYOUT);
        bytes.extend_from_slice(&self.feed.0);
        bytes.extend_from_slice(&self.stream.0);
        for mark in self.shards.iter().chain([&self.events]) {
            write_mark(&mut bytes, *mark);
        }
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Position {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        parse(text).ok_or_else(|| {
            Problem::new(Code::InvalidRequest, "that is no cursor of this feed")
                .field("after")
                .next("send the cursor of the last push that you have, or none to begin now")
        })
    }
}

fn parse(text: &str) -> Option<Position> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (layout, mut rest) = bytes.split_first()?;
    if *layout != LAYOUT {
        return None;
    }
    let mut origin = || {
        let (origin, after) = rest.split_first_chunk()?;
        rest = after;
        Some(Origin(*origin))
    };
    let mut position = Position::new(origin()?, origin()?);
    for shard in &mut position.shards {
        *shard = read_mark(&mut rest)?;
    }
    position.events = read_mark(&mut rest)?;
    rest.is_empty().then_some(position)
}

/// `at` with a bit that says whether ordinal and part follow.
fn write_mark(bytes: &mut Vec<u8>, mark: Mark) {
    let is_inside = mark.ordinal > 0 || mark.part > 0;
    write_number(bytes, mark.at << 1 | u64::from(is_inside));
    if is_inside {
        write_number(bytes, mark.ordinal.into());
        write_number(bytes, mark.part.into());
    }
}

fn read_mark(bytes: &mut &[u8]) -> Option<Mark> {
    let first = read_number(bytes)?;
    let mut mark = Mark {
        at: first >> 1,
        ..Mark::default()
    };
    if first & 1 == 1 {
        mark.ordinal = read_number(bytes)?.try_into().ok()?;
        mark.part = read_number(bytes)?.try_into().ok()?;
    }
    Some(mark)
}

/// Seven bits a byte, the lowest first (LEB128).
fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap_or_default());
}

fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        number |= bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marks() -> impl Strategy<Value = Mark> {
        (0_u64..1 << 62, any::<u32>(), 0_u32..9).prop_map(|(at, ordinal, part)| Mark { at, ordinal, part })
    }

    proptest! {
        #[test]
        fn a_position_survives_its_text(shards in prop::array::uniform16(marks()), events in marks(), id in any::<[u8; 8]>()) {
            let position = Position { feed: Origin(id), stream: Origin::of("x"), shards, events };
            prop_assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        }

        #[test]
        fn no_text_breaks_the_parser(text in "[A-Za-z0-9_-]{0,200}") {
            let _ = text.parse::<Position>();
        }
    }

    #[test]
    fn a_young_installation_has_short_cursors() {
        let mut position = Position::new(Origin::of("a"), Origin::of("b"));
        position.raise(Lane::Shard(3), Mark::whole(40));
        assert_eq!(position.to_string().len(), 46);
        assert!(position.covers(&Position::new(Origin::of("a"), Origin::of("b"))));
        for text in ["", "AQ", "!", &"A".repeat(5_000)] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }
}
