//! Embedders that tests steer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use memory::embed::{EmbedError, Embedder, Embedding, HashEmbedder};
use mesh_runtime::Blocking;

/// The real one behind a switch.
pub(crate) struct Switched {
    inner: HashEmbedder,
    is_down: Arc<AtomicBool>,
}

impl Switched {
    pub(crate) fn new() -> (Arc<Self>, Arc<AtomicBool>) {
        let is_down = Arc::new(AtomicBool::new(false));
        let inner = HashEmbedder::new(Blocking::default());
        (
            Arc::new(Self {
                inner,
                is_down: Arc::clone(&is_down),
            }),
            is_down,
        )
    }
}

impl Embedder for Switched {
    fn model(&self) -> &'static str {
        self.inner.model()
    }

    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Embedding>, EmbedError>> {
        if self.is_down.load(Ordering::SeqCst) {
            return futures::future::ready(Err(EmbedError::Unavailable("switched off".to_owned()))).boxed();
        }
        self.inner.embed(texts)
    }
}
