//! Streamed text of one model step on its way to the token feed: each piece says exactly where it belongs.

use mesh_api::inference::Chunk;
use mesh_api::journal::TokenChunk;

use crate::effects::Tokens;

pub(crate) struct Stream<'a, T> {
    tokens: &'a T,
    step: u32,
    epoch: u32,
    /// Attempts before this call; inference counts its own from 1 in every call.
    before: u32,
    offset: u64,
}

impl<'a, T: Tokens> Stream<'a, T> {
    pub(crate) fn new(tokens: &'a T, step: u32, epoch: u32) -> Self {
        Self {
            tokens,
            step,
            epoch,
            before: 0,
            offset: 0,
        }
    }

    pub(crate) fn take(&mut self, chunk: Chunk, attempt: &mut u32) {
        match chunk {
            Chunk::Attempt(number) => {
                let number = self.before.saturating_add(number.max(1));
                if number != *attempt {
                    *attempt = number;
                    self.void(number);
                }
            }
            Chunk::Text(text) if text.is_empty() => {}
            Chunk::Text(text) => {
                let length = text.len() as u64;
                self.send(*attempt, text);
                self.offset += length;
            }
        }
    }

    /// The call failed and another one follows: what it said is void, under a new number if anybody saw it.
    pub(crate) fn restart(&mut self, counted: bool, attempt: &mut u32) {
        if !counted && self.offset > 0 {
            *attempt += 1;
        }
        self.before = *attempt - 1;
        self.void(*attempt);
    }

    /// Number of the attempt whose text is the result; `number` is inference's own.
    pub(crate) fn settle(&self, number: u32, attempt: &mut u32) {
        *attempt = self.before.saturating_add(number.max(1));
    }

    /// An empty chunk at 0 tells those who read along that the text starts over.
    fn void(&mut self, attempt: u32) {
        if std::mem::take(&mut self.offset) > 0 {
            self.send(attempt, String::new());
        }
    }

    fn send(&self, attempt: u32, text: String) {
        let Self {
            step, epoch, offset, ..
        } = *self;
        self.tokens.chunk(TokenChunk {
            step,
            epoch,
            attempt,
            block: 0,
            offset,
            text,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Seen(Mutex<Vec<(u32, u64, String)>>);

    impl Tokens for Seen {
        fn chunk(&self, chunk: TokenChunk) {
            self.0.lock().unwrap().push((chunk.attempt, chunk.offset, chunk.text));
        }
    }

    #[test]
    fn each_new_attempt_starts_over_at_offset_0() {
        let seen = Seen::default();
        let mut stream = Stream::new(&seen, 3, 1);
        let mut attempt = 1;
        let text = |text: &str| Chunk::Text(text.to_owned());
        for chunk in [Chunk::Attempt(1), text("ab"), text("é"), Chunk::Attempt(2), text("c")] {
            stream.take(chunk, &mut attempt);
        }
        attempt += 1; // the retry is counted
        stream.restart(true, &mut attempt);
        for chunk in [Chunk::Attempt(1), text("d")] {
            stream.take(chunk, &mut attempt);
        }
        stream.restart(false, &mut attempt);
        stream.restart(false, &mut attempt); // nobody saw anything of that one
        stream.take(text("e"), &mut attempt);
        stream.settle(1, &mut attempt);
        assert_eq!(attempt, 4);
        let expected = [
            (1, 0, "ab"),
            (1, 2, "é"),
            (2, 0, ""),
            (2, 0, "c"),
            (3, 0, ""),
            (3, 0, "d"),
            (4, 0, ""),
            (4, 0, "e"),
        ];
        let seen = seen.0.into_inner().unwrap();
        assert!(
            seen.iter().map(|(a, o, t)| (*a, *o, t.as_str())).eq(expected),
            "{seen:?}"
        );
    }
}
