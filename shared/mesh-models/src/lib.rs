//! One client of servers that speak OpenAI's chat completions, for `inference` and for the node's own endpoint. Keys
//! and prices are the caller's; what crosses the mesh is `mesh-api`'s.

mod answer;
mod client;
mod wire;

use std::time::Duration;

pub use answer::{Answer, Chunks, Tokens, Try, TryError, estimate_tokens};
pub use client::OpenAi;

/// Bounds of one try.
#[derive(Debug, Clone)]
pub struct Waits {
    pub connect: Duration,
    /// From the start of a try to the first byte of its answer.
    pub first_byte: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    pub response_bytes_max: usize,
}
