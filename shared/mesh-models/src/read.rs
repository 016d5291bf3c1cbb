//! Reading one streamed answer: bytes to frames to an answer, with a bound on every wait. What a frame means is its
//! wire's.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use mesh_api::inference::Chunk;
use reqwest::Response;
use tokio::time::{Instant, timeout_at};

use crate::answer::{Answer, Chunks, Tokens, TryError};
use crate::frames::{Frames, Framing};
use crate::http::{Server, media_type, not_a_stream};
use crate::{LAST_WORDS, Waits};

/// What one frame brought.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Heard {
    /// A ping, a role, a count: the model has said nothing by it.
    Nothing,
    /// A piece of a tool call or of its thinking.
    Progress,
    /// More of the text.
    Text(String),
}

/// Puts the frames of one wire together.
pub(crate) trait Assemble {
    fn take(&mut self, frame: &str) -> Result<Heard, TryError>;

    /// Nothing more is to be read.
    fn is_done(&self) -> bool;

    /// The answer is whole although the stream was not closed as it should be: only counts may lack.
    fn is_whole(&self) -> bool;

    /// Counted so far.
    fn tokens(&self) -> Option<Tokens>;

    /// The answer, or [`TryError::Cut`] when its end was not seen.
    fn end(self) -> Result<Answer, TryError>;
}

/// Until when the model must say more. Pings and comments do not count: a provider may send them for ever.
#[derive(Debug)]
struct Pace<'a> {
    waits: &'a Waits,
    by: Instant,
    has_bytes: bool,
    has_tokens: bool,
}

impl Pace<'_> {
    fn progress(&mut self) {
        self.has_tokens = true;
        self.by = Instant::now() + self.waits.idle;
    }

    fn timeout(&self) -> TryError {
        TryError::Timeout(match (self.has_bytes, self.has_tokens) {
            (_, true) => "the provider fell silent",
            (true, false) => "the provider sent no token",
            (false, false) => "the provider sent nothing",
        })
    }
}

/// Reads an answer to a question for a stream of events; not every server has one, and then it is a document.
///
/// # Errors
/// As [`read`], without our key.
pub(crate) async fn events_or_document<A: Assemble, C: Chunks>(
    server: &Server,
    response: Response,
    assembly: A,
    first_token_by: Instant,
    chunks: &mut C,
) -> Result<Answer, TryError> {
    let waits = server.waits();
    let answer = match media_type(&response) {
        "text/event-stream" => {
            let frames = Frames::new(Framing::Events);
            read(
                server.bytes(response),
                frames,
                assembly,
                (waits, first_token_by),
                chunks,
            )
            .await
        }
        "application/json" => {
            let document = server
                .document(response, first_token_by, waits.response_bytes_max)
                .await?;
            read_whole(&document, assembly, chunks).await
        }
        other => Err(not_a_stream(other)),
    };
    answer.map_err(|error| server.clean(error))
}

/// Reads until the answer is whole; text goes to `chunks` as it comes.
///
/// # Errors
/// Whatever kept the answer from being whole; [`TryError::Timeout`] when the first token is not there by
/// `first_token_by`, or no token follows another within [`Waits::idle`].
pub(crate) async fn read<A: Assemble, C: Chunks>(
    bytes: impl Stream<Item = Result<Bytes, TryError>>,
    mut frames: Frames,
    mut assembly: A,
    (waits, first_token_by): (&Waits, Instant),
    chunks: &mut C,
) -> Result<Answer, TryError> {
    let mut bytes = std::pin::pin!(bytes);
    let mut pace = Pace {
        waits,
        by: first_token_by,
        has_bytes: false,
        has_tokens: false,
    };
    let mut telling = Telling::new(chunks);
    while !assembly.is_done() {
        match timeout_at(pace.by, bytes.next()).await {
            Ok(Some(Ok(piece))) => {
                pace.has_bytes = true;
                frames.push(&piece);
                while let Some(frame) = frames.next().filter(|_| !assembly.is_done()) {
                    if telling.take(&mut assembly, &frame).await? {
                        pace.progress();
                    }
                    if assembly.is_whole() {
                        pace.by = pace.by.min(Instant::now() + LAST_WORDS);
                    }
                }
                // A body that is always ready never lets the timer look.
                if Instant::now() >= pace.by && !assembly.is_whole() {
                    return Err(pace.timeout());
                }
            }
            Ok(None) => {
                if let Some(rest) = frames.rest() {
                    telling.take_rest(&mut assembly, &rest).await?;
                }
                break;
            }
            // Everything was said already; only the goodbye was lost.
            Ok(Some(Err(_))) | Err(_) if assembly.is_whole() => break,
            Ok(Some(Err(error))) => return Err(error),
            Err(_) => return Err(pace.timeout()),
        }
    }
    telling.end(assembly).await
}

/// Reads the answer of a server that does not stream: one document, as one frame.
pub(crate) async fn read_whole<A: Assemble, C: Chunks>(
    document: &[u8],
    mut assembly: A,
    chunks: &mut C,
) -> Result<Answer, TryError> {
    let mut telling = Telling::new(chunks);
    telling.take(&mut assembly, &String::from_utf8_lossy(document)).await?;
    if !assembly.is_whole() {
        return Err(TryError::Protocol("its answer is no completion".to_owned()));
    }
    telling.end(assembly).await
}

struct Telling<'a, C> {
    chunks: &'a mut C,
    counted: Option<Tokens>,
    has_text: bool,
}

impl<'a, C: Chunks> Telling<'a, C> {
    fn new(chunks: &'a mut C) -> Self {
        Self {
            chunks,
            counted: None,
            has_text: false,
        }
    }

    /// Whether the model said more.
    async fn take<A: Assemble>(&mut self, assembly: &mut A, frame: &str) -> Result<bool, TryError> {
        let heard = assembly.take(frame);
        let tokens = assembly.tokens();
        if let Some(tokens) = tokens.filter(|_| tokens != self.counted) {
            self.counted = Some(tokens);
            self.chunks.counted(tokens);
        }
        match heard? {
            Heard::Nothing => Ok(false),
            Heard::Progress => Ok(true),
            Heard::Text(text) => {
                self.has_text = true;
                self.chunks.send(Chunk::Text(text)).await;
                Ok(true)
            }
        }
    }

    /// What no mark ended counts if it is whole, and is a cut if it is not.
    async fn take_rest<A: Assemble>(&mut self, assembly: &mut A, rest: &str) -> Result<(), TryError> {
        match self.take(assembly, rest).await {
            Err(TryError::Protocol(_)) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Text that could only be known at the end is told in one piece.
    async fn end<A: Assemble>(self, assembly: A) -> Result<Answer, TryError> {
        let answer = assembly.end()?;
        if !self.has_text && !answer.text.is_empty() {
            self.chunks.send(Chunk::Text(answer.text.clone())).await;
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests;
