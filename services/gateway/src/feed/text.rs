//! The text of one running step, as far as the reader has it.

use mesh_api::journal::TokenChunk;

use super::Place;

#[derive(Debug)]
pub(super) struct Text {
    pub(super) place: Place,
    /// Bytes of the blocks before `place.block`; unknown after a resume in a later block.
    pub(super) before: Option<u64>,
    /// Whether the reader knows of this attempt, so that its cursor names it.
    pub(super) announced: bool,
}

/// What a chunk brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing that the reader lacks.
    Nothing,
    Fresh(String),
    /// It does not continue the text: something between was lost.
    Hole,
}

impl Text {
    /// The beginning of an attempt.
    pub(super) fn new(step: u32, epoch: u32, attempt: u32) -> Self {
        let (block, offset) = (0, 0);
        Self {
            place: Place {
                step,
                epoch,
                attempt,
                block,
                offset,
            },
            before: Some(0),
            announced: false,
        }
    }

    /// What a reader with this place in its cursor has.
    pub(super) fn resumed(place: Place) -> Self {
        Self {
            place,
            before: (place.block == 0).then_some(0),
            announced: true,
        }
    }

    /// Whether the reader shows text that a new attempt makes void.
    pub(super) fn is_shown(&self) -> bool {
        self.place.offset > 0 || self.place.block > 0
    }

    /// Bytes told of the whole text; `None` where that is not known.
    pub(super) fn told(&self) -> Option<usize> {
        usize::try_from(self.before?.checked_add(self.place.offset)?).ok()
    }

    /// Takes a chunk of the same attempt.
    pub(super) fn advance(&mut self, chunk: &TokenChunk) -> Told {
        if chunk.block < self.place.block {
            return Told::Nothing;
        }
        if chunk.block > self.place.block {
            if chunk.block > self.place.block + 1 || chunk.offset > 0 {
                return Told::Hole;
            }
            self.before = self.before.and_then(|before| before.checked_add(self.place.offset));
            self.place.block = chunk.block;
            self.place.offset = 0;
        }
        // Bytes of this chunk that were told already, by a repeat or before a resume.
        let Some(repeated) = self.place.offset.checked_sub(chunk.offset) else {
            return Told::Hole;
        };
        if repeated >= chunk.text.len() as u64 {
            return Told::Nothing;
        }
        let fresh = usize::try_from(repeated)
            .ok()
            .and_then(|repeated| chunk.text.get(repeated..));
        let Some(fresh) = fresh else {
            return Told::Hole;
        };
        self.place.offset += fresh.len() as u64;
        self.announced = true;
        Told::Fresh(fresh.to_owned())
    }
}
