//! What turns text into vectors: one trait, and the embedders of this build.

mod hash;

use futures::future::BoxFuture;

pub use hash::HashEmbedder;

/// Numbers in a vector of the column family `embedding_384`.
pub const DIMENSIONS: usize = 384;

/// A vector of length 1 (Euclidean), so that the cosine is the scalar product.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding(pub [f32; DIMENSIONS]);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmbedError {
    #[error("the embedder is not available: {0}")]
    Unavailable(String),
    /// This text can never be embedded.
    #[error("the embedder refused the text: {0}")]
    Refused(String),
}

/// Embeds text. Vectors of two models are never compared, so `model` must change whenever the same text may give
/// another vector.
pub trait Embedder: Send + Sync + 'static {
    /// Stored beside each vector.
    fn model(&self) -> &'static str;
    /// One vector per text, in order. Must not block: work of over 1 ms of CPU goes to the blocking pool.
    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Embedding>, EmbedError>>;
}
