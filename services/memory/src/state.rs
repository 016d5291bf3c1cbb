//! What the handlers and loops of one service share.

use std::sync::Arc;

use mesh_runtime::{Context, Doorbell, MetricName};
use mesh_types::event::{Event, Fact};
use mesh_types::{Code, Problem, Tenant, Timestamp};
use sqlx::PgPool;

use crate::config::Config;
use crate::embed::{EmbedError, Embedder};
use crate::store::memories::Vector;

pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) context: Context,
    pub(crate) pool: PgPool,
    pub(crate) embedder: Arc<dyn Embedder>,
    /// Rings when a fact was committed.
    pub(crate) outbox_bell: Doorbell,
    /// Rings when a memory was taken without its vector.
    pub(crate) embed_bell: Doorbell,
}

impl State {
    pub(crate) fn now(&self) -> Timestamp {
        self.context.clock.now()
    }

    pub(crate) fn event(&self, tenant: &Tenant, actor: &str, fact: Fact) -> Event {
        Event {
            id: self.context.ids.next(),
            tenant: tenant.clone(),
            at: self.now(),
            actor: actor.to_owned(),
            fact,
        }
    }

    /// The vectors of some texts, in order, within the configured time.
    pub(crate) async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vector>, EmbedError> {
        let started = tokio::time::Instant::now();
        let count = texts.len();
        let result = tokio::time::timeout(self.config.embed_timeout(), self.embedder.embed(texts)).await;
        let durations = self.context.metrics.histogram(MetricName::EmbeddingDuration);
        durations.record_duration(started.elapsed(), &[]);
        let embeddings = result.unwrap_or_else(|_| Err(EmbedError::Unavailable("it took too long".to_owned())))?;
        if embeddings.len() != count {
            return Err(EmbedError::Unavailable(format!(
                "{} vectors for {count} texts",
                embeddings.len()
            )));
        }
        let model = self.embedder.model();
        Ok(embeddings
            .into_iter()
            .map(|embedding| Vector { embedding, model })
            .collect())
    }

    pub(crate) async fn embed_one(&self, text: &str) -> Result<Vector, EmbedError> {
        let mut vectors = self.embed(vec![text.to_owned()]).await?;
        vectors
            .pop()
            .ok_or_else(|| EmbedError::Unavailable("no vector".to_owned()))
    }
}

pub(crate) fn not_found(id: mesh_types::MemoryId) -> Problem {
    Problem::new(Code::MemoryNotFound, format!("no memory `{id}`"))
}
