//! What one try at one model gives: an answer, or why not. No I/O.

use std::time::Duration;

use mesh_api::inference::{Chunk, CompleteRequest};
use serde_json::Value;

/// The end of one successful try.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// All text chunks of this try, joined.
    pub text: String,
    /// In the OpenAI shape: `{"id","type":"function","function":{"name","arguments"}}`.
    pub tool_calls: Vec<Value>,
    /// `stop`, `length`, `tool_calls`, or what the provider said.
    pub finish_reason: String,
    /// Absent when the provider counted nothing.
    pub tokens: Option<Tokens>,
}

/// What a provider counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// All of the prompt, with what came from the provider's cache or went into it.
    pub input: u64,
    pub output: u64,
    /// Of `input`: read from the provider's cache.
    pub cached: u64,
    /// Of `input`: written into the provider's cache, where it says so; some ask more for these.
    pub cache_written: u64,
}

/// Why one try failed. Its text never holds a key: it is journaled.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TryError {
    #[error("{0}")]
    Connection(String),
    #[error("no answer in time: {0}")]
    Timeout(&'static str),
    /// A status other than 2xx; `retry_after` as the provider wished it.
    #[error("status {status}: {message}")]
    Status {
        status: u16,
        message: String,
        retry_after: Option<Duration>,
    },
    #[error("the stream was cut before its end")]
    Cut,
    #[error("the provider broke the protocol: {0}")]
    Protocol(String),
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    /// Never asked: the provider's wire has no place for a part of the request.
    #[error("this provider cannot take the request: {0}")]
    Unsupported(String),
}

impl TryError {
    /// Whether the same model may answer a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connection(_) | Self::Timeout(_) | Self::Cut => true,
            Self::Status { status, .. } => matches!(status, 408 | 409 | 425 | 429 | 500..=599),
            Self::Protocol(_) | Self::TooLarge(_) | Self::Unsupported(_) => false,
        }
    }

    /// Whether the request itself was refused, rather than the provider being down.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Unsupported(_)
                | Self::Status {
                    status: 400 | 404 | 413 | 422,
                    ..
                }
        )
    }

    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Where chunks go while a try runs. Who listens may be gone; the try goes on, for its answer is journaled.
pub trait Chunks: Send {
    fn send(&mut self, chunk: Chunk) -> impl Future<Output = ()> + Send;

    /// What the provider has counted so far in this try, as soon as it says so: a try that fails afterwards is paid for
    /// all the same. Later counts replace earlier ones.
    fn counted(&mut self, _tokens: Tokens) {}
}

/// One try: the request, and the model's name as its provider knows it.
#[derive(Debug, Clone, Copy)]
pub struct Try<'a> {
    pub model: &'a str,
    pub request: &'a CompleteRequest,
    /// Counted from 1 over the whole call, as announced by [`Chunk::Attempt`].
    pub attempt: u32,
}

/// Tokens guessed from the length of the texts: about four bytes of English to a token, at least one for a text.
pub fn estimate_tokens(request: &CompleteRequest, answer: &Answer) -> Tokens {
    let tokens = |bytes: usize| (bytes as u64).div_ceil(4);
    let input = request
        .messages
        .iter()
        .map(|message| tokens(message.content.plain_text().len()))
        .sum();
    let calls: usize = answer.tool_calls.iter().map(|call| call.to_string().len()).sum();
    Tokens {
        input,
        output: tokens(answer.text.len() + calls),
        ..Tokens::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_by_itself_is_tried_again() {
        let status = |status| TryError::Status {
            status,
            message: String::new(),
            retry_after: None,
        };
        for error in [
            status(429),
            status(500),
            status(503),
            status(408),
            TryError::Cut,
            TryError::Timeout("x"),
        ] {
            assert!(error.is_transient(), "{error}");
        }
        for error in [
            status(400),
            status(401),
            status(404),
            TryError::Protocol("x".into()),
            TryError::TooLarge(1),
            TryError::Unsupported("x".into()),
        ] {
            assert!(!error.is_transient(), "{error}");
        }
    }
}
