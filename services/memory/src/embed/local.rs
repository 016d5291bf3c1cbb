//! The local model: one task gathers what waits, loads the weights when there is something to embed, and gives them
//! back when there was nothing for a while. All computing is on the blocking pool.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use mesh_embed::{ModelError, SentenceModel, Settings};
use mesh_runtime::{Blocking, Context};
use mesh_types::Tenant;
use tokio::sync::{mpsc, oneshot};

use super::{Dimensions, EmbedError, Embedder, Embedding, Model, Urgency};

/// Its vectors' model where the configuration gives no name.
const MODEL: &str = "all-minilm-l6-v2";
/// Texts of one piece of work on the blocking pool.
const TEXTS_AT_ONCE: usize = 32;
/// Tokens of one piece of work, about a quarter of a second of one core: longer ones would keep a query waiting.
const TOKENS_AT_ONCE: usize = 1_024;
/// Requests that wait; more wait before they are taken.
const WAITING_MAX: usize = 256;

#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// The model's folder: `model.safetensors`, `tokenizer.json`, `config.json`.
    pub folder: PathBuf,
    /// Name of its vectors' model; other weights need another name.
    pub name: Option<String>,
    /// Without a request for so long, the weights are given back.
    pub idle: Duration,
}

/// Embeds by a model in this process.
#[derive(Debug)]
pub struct LocalEmbedder {
    model: Model,
    tokens_max: usize,
    now: mpsc::Sender<Request>,
    later: mpsc::Sender<Request>,
    is_loaded: Arc<AtomicBool>,
}

/// Some texts of one caller, small enough for one piece of work.
#[derive(Debug)]
struct Request {
    texts: Vec<String>,
    tokens: usize,
    answer: oneshot::Sender<Result<Vec<Embedding>, EmbedError>>,
}

impl LocalEmbedder {
    /// Reads the model's sizes; its weights are loaded by the first request. Its task ends with the context.
    ///
    /// # Errors
    /// The folder has no model that can be used.
    pub fn open(options: LocalOptions, context: &Context) -> Result<Self, ModelError> {
        let settings = Settings::read(&options.folder)?;
        let Some(dimensions) = Dimensions::of(settings.dimensions) else {
            return Err(ModelError::Unfit {
                reason: format!(
                    "its vectors have {} numbers; {} can be stored",
                    settings.dimensions,
                    Dimensions::list()
                ),
                path: options.folder,
            });
        };
        let weights = options.folder.join("model.safetensors");
        if let Err(source) = std::fs::metadata(&weights) {
            return Err(ModelError::Read { path: weights, source });
        }
        let (now, now_waiting) = mpsc::channel(WAITING_MAX);
        let (later, later_waiting) = mpsc::channel(WAITING_MAX);
        let is_loaded = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            folder: options.folder,
            idle: options.idle,
            blocking: context.blocking.clone(),
            now: now_waiting,
            later: later_waiting,
            is_loaded: Arc::clone(&is_loaded),
            loaded: None,
        };
        let shutdown = context.shutdown.clone();
        context.tasks.spawn("memory-embedder", async move {
            shutdown.run_until_cancelled(worker.run()).await;
        });
        Ok(Self {
            model: Model {
                name: options.name.as_deref().unwrap_or(MODEL).into(),
                dimensions,
            },
            tokens_max: settings.tokens_max,
            now,
            later,
            is_loaded,
        })
    }

    async fn ask(&self, urgency: Urgency, texts: Vec<String>) -> Result<Vec<Embedding>, EmbedError> {
        let queue = match urgency {
            Urgency::Now => &self.now,
            Urgency::Later => &self.later,
        };
        let mut answers = Vec::new();
        for (texts, tokens) in pieces(texts, self.tokens_max) {
            let (answer, answered) = oneshot::channel();
            let request = Request { texts, tokens, answer };
            queue.send(request).await.map_err(|_| stopped())?;
            answers.push(answered);
        }
        let mut embeddings = Vec::new();
        for answered in answers {
            embeddings.extend(answered.await.map_err(|_| stopped())??);
        }
        Ok(embeddings)
    }
}

impl Embedder for LocalEmbedder {
    fn model(&self) -> &Model {
        &self.model
    }

    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Embedding>, EmbedError>> {
        self.ask(Urgency::Now, texts).boxed()
    }

    fn embed_for(
        &self,
        _: &Tenant,
        urgency: Urgency,
        texts: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<Embedding>, EmbedError>> {
        self.ask(urgency, texts).boxed()
    }

    fn is_loaded(&self) -> Option<bool> {
        Some(self.is_loaded.load(Ordering::Relaxed))
    }
}

fn stopped() -> EmbedError {
    EmbedError::Unavailable("the local model is stopping".to_owned())
}

fn unavailable(error: impl std::fmt::Display) -> EmbedError {
    EmbedError::Unavailable(error.to_string())
}

/// Texts in order, cut into pieces of work, each with its tokens at most: a word piece has at least one byte of Latin
/// text and, in other scripts, about one character of two bytes.
fn pieces(texts: Vec<String>, tokens_max: usize) -> Vec<(Vec<String>, usize)> {
    let mut pieces: Vec<(Vec<String>, usize)> = Vec::new();
    for text in texts {
        let tokens = (text.len() / 2 + 2).min(tokens_max);
        match pieces.last_mut() {
            Some((last, sum)) if last.len() < TEXTS_AT_ONCE && *sum + tokens <= TOKENS_AT_ONCE => {
                last.push(text);
                *sum += tokens;
            }
            _ => pieces.push((vec![text], tokens)),
        }
    }
    pieces
}

struct Worker {
    folder: PathBuf,
    idle: Duration,
    blocking: Blocking,
    now: mpsc::Receiver<Request>,
    later: mpsc::Receiver<Request>,
    is_loaded: Arc<AtomicBool>,
    loaded: Option<Arc<SentenceModel>>,
}

impl Worker {
    async fn run(mut self) {
        loop {
            let (idle, is_loaded) = (tokio::time::sleep(self.idle), self.loaded.is_some());
            let batches = tokio::select! {
                batches = self.gather() => batches,
                () = idle, if is_loaded => {
                    self.unload();
                    continue;
                }
            };
            if batches.is_empty() {
                return;
            }
            match self.model().await {
                Ok(model) => {
                    let work = batches.into_iter().map(|batch| compute(&self.blocking, &model, batch));
                    join_all(work).await;
                }
                Err(error) => {
                    let all = batches.into_iter().flatten();
                    // Who does not listen any more needs no answer.
                    all.for_each(|request| drop(request.answer.send(Err(error.clone()))));
                }
            }
        }
    }

    /// Waits for a request; then takes what waits beside it, as much as the pool can work on at once. What somebody
    /// waits for goes first, and alone. Empty: nobody can ask any more. Loses nothing when it is dropped.
    async fn gather(&mut self) -> Vec<Vec<Request>> {
        let (first, queue) = tokio::select! {
            biased;
            Some(request) = self.now.recv() => (request, &mut self.now),
            Some(request) = self.later.recv() => (request, &mut self.later),
            else => return Vec::new(),
        };
        let mut batches = vec![Vec::new()];
        let (mut texts, mut tokens) = (0, 0);
        let mut next = Some(first);
        while let Some(request) = next {
            let is_full = texts + request.texts.len() > TEXTS_AT_ONCE || tokens + request.tokens > TOKENS_AT_ONCE;
            if is_full && texts > 0 {
                batches.push(Vec::new());
                (texts, tokens) = (0, 0);
            }
            texts += request.texts.len();
            tokens += request.tokens;
            if let Some(batch) = batches.last_mut() {
                batch.push(request);
            }
            // A batch too many would wait for the pool while something urgent arrives.
            let is_enough = batches.len() >= self.blocking.width() && tokens >= TOKENS_AT_ONCE / 2;
            next = if is_enough { None } else { queue.try_recv().ok() };
        }
        batches
    }

    async fn model(&mut self) -> Result<Arc<SentenceModel>, EmbedError> {
        if let Some(model) = &self.loaded {
            return Ok(Arc::clone(model));
        }
        let started = tokio::time::Instant::now();
        let folder = self.folder.clone();
        let loaded = self.blocking.run(move || load(&folder)).await.map_err(unavailable)?;
        let model = Arc::new(loaded.inspect_err(|error| tracing::error!(%error, "the local model cannot be loaded"))?);
        let took_ms = started.elapsed().as_millis() as u64;
        tracing::info!(folder = %self.folder.display(), took_ms, "the local model is loaded");
        self.loaded = Some(Arc::clone(&model));
        self.is_loaded.store(true, Ordering::Relaxed);
        Ok(model)
    }

    fn unload(&mut self) {
        self.loaded = None;
        self.is_loaded.store(false, Ordering::Relaxed);
        tracing::info!("the local model is unloaded: nothing was asked of it for a while");
    }
}

fn load(folder: &Path) -> Result<SentenceModel, EmbedError> {
    SentenceModel::load(folder).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        unavailable(format!("{error}{}", cause.unwrap_or_default()))
    })
}

async fn compute(blocking: &Blocking, model: &Arc<SentenceModel>, batch: Vec<Request>) {
    let model = Arc::clone(model);
    // A caller that gave up leaves its texts behind.
    let mut batch: Vec<Request> = batch
        .into_iter()
        .filter(|request| !request.answer.is_closed())
        .collect();
    let texts: Vec<String> = batch.iter_mut().flat_map(|request| &request.texts).cloned().collect();
    let computed = blocking.run(move || model.embed(&texts)).await;
    let result = match computed {
        Ok(Ok(vectors)) => Ok(vectors),
        Ok(Err(error)) => Err(unavailable(error)),
        Err(error) => Err(unavailable(error)),
    };
    let mut vectors = match result {
        Ok(vectors) => vectors.into_iter(),
        Err(error) => {
            batch
                .into_iter()
                .for_each(|request| drop(request.answer.send(Err(error.clone()))));
            return;
        }
    };
    for request in batch {
        let own = vectors.by_ref().take(request.texts.len()).map(Embedding).collect();
        drop(request.answer.send(Ok(own)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_hold_every_text_in_order_and_stay_small(lengths in prop::collection::vec(0_usize..3_000, 0..200)) {
            let texts: Vec<String> = lengths.iter().enumerate().map(|(i, n)| format!("{i}{}", "x".repeat(*n))).collect();
            let pieces = pieces(texts.clone(), 256);
            for (texts, tokens) in &pieces {
                prop_assert!(!texts.is_empty() && texts.len() <= TEXTS_AT_ONCE);
                prop_assert!(*tokens <= TOKENS_AT_ONCE);
            }
            let again: Vec<String> = pieces.into_iter().flat_map(|(texts, _)| texts).collect();
            prop_assert_eq!(again, texts);
        }
    }
}
