//! What turns text into vectors: one trait, and the embedders of this build.

pub(crate) mod cache;
mod choice;
mod hash;
mod local;
mod remote;

use std::sync::Arc;

use futures::future::BoxFuture;
use mesh_types::Tenant;

pub(crate) use choice::open;
pub use hash::HashEmbedder;
pub(crate) use hash::MODEL as HASH_MODEL;
pub use local::{LocalEmbedder, LocalOptions};
pub use remote::{RemoteEmbedder, RemoteModel};

/// Numbers in a vector; each has its table and its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dimensions {
    D384,
    D768,
    D1024,
    D1536,
    D3072,
}

impl Dimensions {
    pub const ALL: [Self; 5] = [Self::D384, Self::D768, Self::D1024, Self::D1536, Self::D3072];

    pub const fn count(self) -> usize {
        match self {
            Self::D384 => 384,
            Self::D768 => 768,
            Self::D1024 => 1_024,
            Self::D1536 => 1_536,
            Self::D3072 => 3_072,
        }
    }

    /// Those of a vector, as people write them in a list.
    pub fn list() -> String {
        Self::ALL.map(|dimensions| dimensions.count().to_string()).join(", ")
    }

    /// `None`: there is no table for so many.
    pub fn of(count: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|dimensions| dimensions.count() == count)
    }
}

/// A model's name as it is stored beside each vector. It must change whenever the same text may give another vector.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Model {
    pub name: Arc<str>,
    pub dimensions: Dimensions,
}

/// A vector of length 1 (Euclidean), so that the cosine is the scalar product.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding(pub Vec<f32>);

impl Embedding {
    /// Brought to length 1; `None` for a vector of zeros or of what is no number.
    pub fn normalized(mut numbers: Vec<f32>) -> Option<Self> {
        let length = numbers.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        if !length.is_finite() || length <= f64::from(f32::MIN_POSITIVE) {
            return None;
        }
        for number in &mut numbers {
            *number = (f64::from(*number) / length) as f32;
        }
        Some(Self(numbers))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmbedError {
    #[error("the embedder is not available: {0}")]
    Unavailable(String),
    /// This text can never be embedded.
    #[error("the embedder refused the text: {0}")]
    Refused(String),
}

/// Whether somebody waits for the vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// A request does: it goes before what waits already.
    Now,
    /// Nobody does.
    Later,
}

/// Embeds text. Vectors of two models are never compared.
pub trait Embedder: Send + Sync + 'static {
    fn model(&self) -> &Model;
    /// One vector per text, in order, each of the model's dimensions. Must not block: work of over 1 ms of CPU goes to
    /// the blocking pool.
    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Embedding>, EmbedError>>;
    /// As [`Embedder::embed`], for that tenant, whose usage it is.
    fn embed_for(
        &self,
        tenant: &Tenant,
        urgency: Urgency,
        texts: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<Embedding>, EmbedError>> {
        let _ = (tenant, urgency);
        self.embed(texts)
    }
    /// Whether its weights are in memory; `None` for one that has none here.
    fn is_loaded(&self) -> Option<bool> {
        None
    }
}
