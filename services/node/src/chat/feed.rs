//! What a model says, on its way to who listens: pieces in order, joined where the listener is slower than the model.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mesh_api::inference::Chunk;
use mesh_runtime::Doorbell;

/// Bytes up to which texts are joined to one piece; a frame of a tunnel must hold it.
const PIECE_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// What came before is void: another try starts.
    Reset(u32),
    Text(String),
}

/// Holds at most the answer that is being made.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    pieces: Mutex<VecDeque<Piece>>,
    bell: Doorbell,
}

impl Feed {
    pub(crate) fn push(&self, chunk: Chunk) {
        let mut pieces = self.lock();
        match chunk {
            // Nothing was said before the first try.
            Chunk::Attempt(1) => return,
            Chunk::Attempt(attempt) => {
                // What nobody has heard yet need not be said and taken back.
                pieces.clear();
                pieces.push_back(Piece::Reset(attempt));
            }
            Chunk::Text(text) => match pieces.back_mut() {
                Some(Piece::Text(last)) if last.len() + text.len() <= PIECE_BYTES_MAX => last.push_str(&text),
                _ => pieces.extend(cut(text)),
            },
        }
        drop(pieces);
        self.bell.ring();
    }

    pub(crate) fn take(&self) -> Option<Piece> {
        self.lock().pop_front()
    }

    /// Waits for the next push.
    pub(crate) async fn rung(&self) {
        self.bell.rung().await;
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Piece>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A text in pieces of the allowed length, cut between characters.
fn cut(text: String) -> Vec<Piece> {
    if text.len() <= PIECE_BYTES_MAX {
        return vec![Piece::Text(text)];
    }
    let mut pieces = Vec::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES_MAX));
        pieces.push(Piece::Text(piece.to_owned()));
        rest = after;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Chunk {
        Chunk::Text(text.to_owned())
    }

    #[tokio::test]
    async fn texts_that_wait_are_joined_and_a_new_try_voids_them() {
        let feed = Feed::default();
        feed.push(Chunk::Attempt(1));
        feed.push(text("Hel"));
        feed.push(text("lo"));
        feed.rung().await;
        assert_eq!(feed.take(), Some(Piece::Text("Hello".to_owned())));
        feed.push(text("void"));
        feed.push(Chunk::Attempt(2));
        feed.push(text("again"));
        assert_eq!(feed.take(), Some(Piece::Reset(2)));
        assert_eq!(feed.take(), Some(Piece::Text("again".to_owned())));
        assert_eq!(feed.take(), None);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let feed = Feed::default();
        let long = "є".repeat(PIECE_BYTES_MAX);
        feed.push(text(&long));
        let mut joined = String::new();
        while let Some(Piece::Text(piece)) = feed.take() {
            assert!(piece.len() <= PIECE_BYTES_MAX);
            joined.push_str(&piece);
        }
        assert_eq!(joined, long);
    }
}
