//! Which embedder the configuration means.

use std::sync::Arc;

use mesh_runtime::Context;

use super::{Embedder, HashEmbedder, LocalEmbedder, LocalOptions, RemoteEmbedder, RemoteModel};
use crate::config::{Config, EmbedderKind};

const WEIGHTS_FILE: &str = "model.safetensors";

/// Opens it. `auto`: what was configured to be asked, else the local model if its weights are there, else hashes.
///
/// # Errors
/// What must be configured otherwise.
pub(crate) fn open(config: &Config, context: &Context) -> Result<Arc<dyn Embedder>, String> {
    let hash = || Arc::new(HashEmbedder::new(context.blocking.clone()));
    Ok(match config.embedder {
        EmbedderKind::Hash => hash(),
        EmbedderKind::Mesh => Arc::new(remote(config, context)?),
        EmbedderKind::Local => Arc::new(local(config, context)?),
        EmbedderKind::Auto if config.asks_mesh() => Arc::new(remote(config, context)?),
        EmbedderKind::Auto if has_weights(config) => Arc::new(local(config, context)?),
        EmbedderKind::Auto => {
            tracing::warn!(
                "memories are found by their words only, not by their meaning: no embedder is configured. `mesh up` \
                 fetches a local one; elsewhere set MESH_MEMORY__EMBEDDING_WEIGHTS to a folder with its weights, or \
                 EMBEDDING_API_URL (or MESH_MEMORY__EMBEDDING_MODEL) to one that is asked"
            );
            hash()
        }
    })
}

/// A folder that nobody has filled yet, such as a container's new volume, is as good as none.
fn has_weights(config: &Config) -> bool {
    let folder = config.embedding_weights.as_ref();
    folder.is_some_and(|folder| folder.join(WEIGHTS_FILE).is_file())
}

fn remote(config: &Config, context: &Context) -> Result<RemoteEmbedder, String> {
    let model = RemoteModel::new(config.embedding_model.as_deref(), config.embedding_dimensions)?;
    Ok(RemoteEmbedder::new(
        model,
        context.clone(),
        config.embed_batch_timeout(),
    ))
}

fn local(config: &Config, context: &Context) -> Result<LocalEmbedder, String> {
    let folder = config.embedding_weights.clone().ok_or(
        "embedding_weights: the folder of the local model is not set; `mesh up` fetches it and sets it by itself",
    )?;
    let options = LocalOptions {
        folder,
        name: config.embedding_model.clone(),
        idle: config.embed_idle_unload(),
    };
    LocalEmbedder::open(options, context).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        format!("embedding_weights: {error}{}", cause.unwrap_or_default())
    })
}
