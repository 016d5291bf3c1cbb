//! What the handlers and loops of one service share.

use std::sync::{Arc, Mutex, PoisonError};

use mesh_api::Caller;
use mesh_runtime::metrics::{BoundCounter, BoundHistogram};
use mesh_runtime::{Context, Doorbell, MetricName, Metrics};
use mesh_types::event::{Event, Fact};
use mesh_types::{Code, Problem, Tenant, Timestamp};
use sqlx::PgPool;

use crate::config::Config;
use crate::embed::cache::Cache;
use crate::embed::{EmbedError, Embedder, Embedding, Urgency};
use crate::store::search::Searches;
use crate::store::vectors::Vector;

pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) context: Context,
    pub(crate) pool: PgPool,
    pub(crate) searches: Searches,
    pub(crate) embedder: Arc<dyn Embedder>,
    pub(crate) embed_cache: Cache,
    pub(crate) embed_health: EmbedHealth,
    pub(crate) figures: Figures,
    /// Rings when a fact was committed.
    pub(crate) outbox_bell: Doorbell,
    /// Rings when a memory was taken without its vector.
    pub(crate) embed_bell: Doorbell,
    /// Rings when a tenant's texts may all have vectors of the current model.
    pub(crate) reembed_bell: Doorbell,
    /// Rings when a memory's time is over soon.
    pub(crate) expire_bell: Doorbell,
}

impl State {
    pub(crate) fn now(&self) -> Timestamp {
        self.context.clock.now()
    }

    pub(crate) fn event(&self, tenant: &Tenant, actor: &str, fact: Fact) -> Event {
        Event {
            request_id: None,
            change: None,
            id: self.context.ids.next(),
            tenant: tenant.clone(),
            at: self.now(),
            actor: actor.to_owned(),
            fact,
        }
    }

    /// A fact of what somebody asked for.
    pub(crate) fn event_of(&self, caller: &Caller, fact: Fact) -> Event {
        Event {
            request_id: caller.request_id,
            ..self.event(&caller.tenant, &caller.actor, fact)
        }
    }

    /// The vector of a text that somebody waits for. What the embedder refuses for good is told as something that may
    /// go well later: the loop asks once more, and gives it up then.
    pub(crate) async fn embed_text(&self, tenant: &Tenant, text: &str) -> Result<Vector, EmbedError> {
        let embedded = self.embed(tenant, Urgency::Now, vec![text.to_owned()]).await;
        let mut vectors = embedded.map_err(|error| match error {
            EmbedError::Refused(reason) => EmbedError::Unavailable(reason),
            other => other,
        })?;
        vectors
            .pop()
            .ok_or_else(|| EmbedError::Unavailable("no vector".to_owned()))
    }

    /// The vectors of some texts, in order, which nobody waits for.
    pub(crate) async fn embed_later(&self, tenant: &Tenant, texts: Vec<String>) -> Result<Vec<Vector>, EmbedError> {
        self.embed(tenant, Urgency::Later, texts).await
    }

    /// Within the configured time; what was embedded a while ago is not asked again.
    async fn embed(&self, tenant: &Tenant, urgency: Urgency, texts: Vec<String>) -> Result<Vec<Vector>, EmbedError> {
        let keys: Vec<_> = texts.iter().map(|text| Cache::key(text)).collect();
        let mut embeddings: Vec<_> = keys.iter().map(|key| self.embed_cache.get(key)).collect();
        let missing = texts.into_iter().zip(&embeddings).filter(|(_, known)| known.is_none());
        let missing: Vec<String> = missing.map(|(text, _)| text).collect();
        if !missing.is_empty() {
            let mut asked = self.ask_embedder(tenant, urgency, missing).await?.into_iter();
            for (embedding, key) in embeddings.iter_mut().zip(&keys).filter(|(known, _)| known.is_none()) {
                *embedding = asked.next();
                if let Some(embedding) = embedding {
                    self.embed_cache.put(*key, embedding);
                }
            }
        }
        let model = self.embedder.model();
        let vector = |embedding: Embedding| Vector {
            embedding,
            model: model.clone(),
        };
        Ok(embeddings.into_iter().flatten().map(vector).collect())
    }

    async fn ask_embedder(
        &self,
        tenant: &Tenant,
        urgency: Urgency,
        texts: Vec<String>,
    ) -> Result<Vec<Embedding>, EmbedError> {
        let started = tokio::time::Instant::now();
        let count = texts.len();
        let timeout = match urgency {
            Urgency::Now => self.config.embed_timeout(),
            Urgency::Later => self.config.embed_batch_timeout(),
        };
        let asked = self.embedder.embed_for(tenant, urgency, texts);
        let answered = tokio::time::timeout(timeout, asked).await;
        self.figures.embedding.record_duration(started.elapsed());
        let too_long = || {
            let ms = timeout.as_millis();
            Err(EmbedError::Unavailable(format!(
                "no vectors of {count} texts within {ms} ms"
            )))
        };
        let result = answered.unwrap_or_else(|_| too_long()).and_then(|embeddings| {
            if embeddings.len() == count {
                return Ok(embeddings);
            }
            let given = embeddings.len();
            Err(EmbedError::Unavailable(format!("{given} vectors for {count} texts")))
        });
        self.embed_health.note(&result);
        result
    }
}

/// Instruments of hot roads, made once: making one takes longer than all else that a search does here.
pub(crate) struct Figures {
    pub(crate) queries_answered: BoundCounter,
    pub(crate) queries_failed: BoundCounter,
    pub(crate) query: BoundHistogram,
    embedding: BoundHistogram,
}

impl Figures {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let queries = metrics.counter(MetricName::MemoryQueries);
        Self {
            queries_answered: queries.bound(&[("outcome", "ok")]),
            queries_failed: queries.bound(&[("outcome", "failed")]),
            query: metrics.histogram(MetricName::MemoryQueryDuration).bound(&[]),
            embedding: metrics.histogram(MetricName::EmbeddingDuration).bound(&[]),
        }
    }
}

/// What the embedder's last answer was.
#[derive(Debug, Default)]
pub(crate) struct EmbedHealth(Mutex<Option<String>>);

impl EmbedHealth {
    fn note<T>(&self, result: &Result<T, EmbedError>) {
        let error = match result {
            Err(EmbedError::Unavailable(reason)) => Some(reason.clone()),
            // It works; the text does not.
            Ok(_) | Err(EmbedError::Refused(_)) => None,
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// Why it did not answer when it was asked last.
    pub(crate) fn error(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(crate) fn not_found(id: mesh_types::MemoryId) -> Problem {
    Problem::new(Code::MemoryNotFound, format!("no memory `{id}`"))
}
