//! Sentence vectors on the processor, without a network: a BERT encoder (all-MiniLM-L6-v2 and its like) with mean
//! pooling, over a folder as sentence-transformers publishes it. Synchronous: callers bring their own thread.
//!
//! The forward pass is written here on `ndarray` (whose matrix product is `matrixmultiply`, pure Rust with AVX2 and FMA
//! found at run time) instead of a framework for neural networks: it is 150 lines, the framework would be a hundred
//! crates more in every build, and this way texts of different lengths share one batch without padding: all their
//! tokens are rows of one matrix, and only attention looks at each text by itself. So a text's vector does not depend on
//! what it is batched with.

mod error;
mod math;
mod model;
mod settings;
mod weights;
mod words;

pub use error::ModelError;
pub use model::SentenceModel;
pub use settings::Settings;
