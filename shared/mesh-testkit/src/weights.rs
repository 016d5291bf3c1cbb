//! Real weights for tests of what is found by meaning.

use std::path::PathBuf;
use std::sync::OnceLock;

use mesh_servers::{EmbedderWeights, Quiet};

/// The folder of all-MiniLM-L6-v2, fetched into the user's cache by the first test that asks (`cargo xtask test` does it
/// before the tests).
///
/// # Panics
/// When they are not there and cannot be fetched.
pub fn embedder_weights() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let resolve = || EmbedderWeights::resolve(&mut Quiet).map(|weights| weights.folder);
    FOLDER
        .get_or_init(|| resolve().expect("the weights are there or can be fetched"))
        .clone()
}
