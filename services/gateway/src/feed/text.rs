//! The text of one running step, as far as the reader has it.

use mesh_api::journal::TokenChunk;

use super::Place;

#[derive(Debug)]
pub(super) struct Text {
    pub(super) place: Place,
    /// Bytes of the blocks before `place.block`; unknown after a resume in a later block.
    pub(super) before: Option<u64>,
    /// Whether the reader has text of this step that a new attempt makes void.
    pub(super) shown: bool,
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
    /// The beginning of the attempt that a chunk belongs to.
    pub(super) fn new(chunk: &TokenChunk) -> Self {
        let TokenChunk {
            step, epoch, attempt, ..
        } = *chunk;
        let place = Place {
            step,
            epoch,
            attempt,
            block: 0,
            offset: 0,
        };
        Self {
            place,
            before: Some(0),
            shown: false,
        }
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
            self.before = self.before.map(|before| before + self.place.offset);
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
        self.shown = true;
        Told::Fresh(fresh.to_owned())
    }
}
