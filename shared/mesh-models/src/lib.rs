//! Clients of model providers, for `inference` and for the node's own endpoint: OpenAI's wire, Anthropic's, Ollama's.
//! Keys and prices are the caller's; what crosses the mesh is `mesh-api`'s, whose tool calls have OpenAI's shape.
//!
//! Own clients, since the journal needs what crates for many providers smooth away: counts of cached tokens, the
//! pieces of tool calls, errors in the middle of a stream, and a bound on each wait.

mod answer;
mod anthropic;
mod conversation;
mod frames;
mod http;
mod ollama;
mod openai;
mod read;
mod retry_after;
mod vectors;

#[cfg(test)]
mod shapes;

use std::time::Duration;

pub use answer::{Answer, Chunks, Tokens, Try, TryError, estimate_tokens};
pub use anthropic::Anthropic;
pub use ollama::{Ollama, Prompting};
pub use openai::{OpenAi, SchemaSupport};
pub use vectors::{TEXT_BYTES_MAX, TEXTS_MAX, Texts, Vectors};

/// Bounds of one try.
#[derive(Debug, Clone)]
pub struct Waits {
    pub connect: Duration,
    /// From the start of a try to the first token of its answer; pings and comments before it do not count.
    pub first_byte: Duration,
    /// Between two tokens of an answer.
    pub idle: Duration,
    pub response_bytes_max: usize,
}

/// How long an answer that is whole may still be told what it cost.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Longest list of models that is read, in bytes; the longest known one has about a megabyte.
const MODELS_BYTES_MAX: usize = 4 * 1024 * 1024;
