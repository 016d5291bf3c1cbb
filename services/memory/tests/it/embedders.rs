//! Embedders that tests steer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use memory::embed::{Dimensions, EmbedError, Embedder, Embedding, HashEmbedder, Model, Urgency};
use mesh_runtime::Blocking;
use mesh_types::Tenant;
use tokio::sync::Semaphore;

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
    fn model(&self) -> &Model {
        self.inner.model()
    }

    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Embedding>, EmbedError>> {
        if self.is_down.load(Ordering::SeqCst) {
            return futures::future::ready(Err(EmbedError::Unavailable("switched off".to_owned()))).boxed();
        }
        self.inner.embed(texts)
    }
}

/// Another model than the hashing one, by the same means: `dimensions` numbers, the first ones those of the hash.
pub(crate) struct Scripted {
    inner: HashEmbedder,
    model: Model,
    is_down: AtomicBool,
    /// What is in no text that it takes.
    refused: &'static str,
}

impl Scripted {
    pub(crate) fn new(name: &str, dimensions: Dimensions) -> Arc<Self> {
        Self::refusing("\0", name, dimensions)
    }

    pub(crate) fn refusing(refused: &'static str, name: &str, dimensions: Dimensions) -> Arc<Self> {
        Arc::new(Self {
            inner: HashEmbedder::new(Blocking::default()),
            model: Model {
                name: name.into(),
                dimensions,
            },
            is_down: AtomicBool::new(false),
            refused,
        })
    }

    pub(crate) fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
    }
}

impl Embedder for Scripted {
    fn model(&self) -> &Model {
        &self.model
    }

    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Embedding>, EmbedError>> {
        async move {
            if self.is_down.load(Ordering::SeqCst) {
                return Err(EmbedError::Unavailable("switched off".to_owned()));
            }
            if texts.iter().any(|text| text.contains(self.refused)) {
                return Err(EmbedError::Refused(format!("`{}` is in it", self.refused)));
            }
            let mut vectors = self.inner.embed(texts).await?;
            for vector in &mut vectors {
                vector.0.resize(self.model.dimensions.count(), 0.0);
            }
            Ok(vectors)
        }
        .boxed()
    }
}

/// Takes nothing that somebody waits for, and refuses poison once it is told to.
pub(crate) struct Slow {
    inner: HashEmbedder,
    pub(crate) is_asked: AtomicBool,
    pub(crate) may_refuse: Semaphore,
}

impl Slow {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: HashEmbedder::new(Blocking::default()),
            is_asked: AtomicBool::new(false),
            may_refuse: Semaphore::new(0),
        })
    }
}

impl Embedder for Slow {
    fn model(&self) -> &Model {
        self.inner.model()
    }

    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Embedding>, EmbedError>> {
        self.inner.embed(texts)
    }

    fn embed_for(
        &self,
        _: &Tenant,
        urgency: Urgency,
        texts: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<Embedding>, EmbedError>> {
        async move {
            if urgency == Urgency::Now {
                return Err(EmbedError::Unavailable("too slow".to_owned()));
            }
            if texts.iter().any(|text| text.contains("poison")) {
                self.is_asked.store(true, Ordering::SeqCst);
                let _told = self.may_refuse.acquire().await;
                return Err(EmbedError::Refused("poison".to_owned()));
            }
            self.inner.embed(texts).await
        }
        .boxed()
    }
}
