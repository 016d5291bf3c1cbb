//! Configuration of `memory`.

use std::path::PathBuf;
use std::time::Duration;

use mesh_runtime::{DatabaseConfig, Validate};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub database: DatabaseConfig,
    /// What makes the vectors.
    pub embedder: EmbedderKind,
    /// `EMBEDDING_API_URL`: an OpenAI-compatible embedder. `inference` asks it; that it is set is what counts here.
    pub embedding_api_url: Option<String>,
    /// Of `mesh`: the model that is asked for, by its name as for chat. Of `local`: how its vectors' model is called.
    pub embedding_model: Option<String>,
    /// Of `mesh`: numbers in a vector, for models whose vectors' length is not known or is to be another.
    pub embedding_dimensions: Option<u32>,
    /// Of `local`: folder with `model.safetensors`, `tokenizer.json` and `config.json`. `mesh up` fetches it and sets
    /// this where it is not set.
    pub embedding_weights: Option<PathBuf>,
    /// Of `local`: how long the weights stay in memory without a request.
    pub embed_idle_unload_seconds: u64,
    /// Memory for vectors of texts that were embedded a while ago.
    pub embed_cache_bytes: usize,
    /// Keeps vectors of another model when every text of a tenant has one of the current model.
    pub keep_old_vectors: bool,
    /// Longest wait for the embedder before a memory is taken without its vector, or a query goes by words.
    pub embed_timeout_ms: u64,
    /// Longest wait for the vectors of a batch that nobody waits for.
    pub embed_batch_timeout_ms: u64,
    /// Before a memory without a vector is tried again; doubles, up to a minute.
    pub embed_retry_ms: u64,
    /// How often the queue of memories without a vector is looked at.
    pub embed_tick_ms: u64,
    /// How often it is looked whether texts have vectors of another model only.
    pub reembed_tick_ms: u64,
    /// Owners of at most so many memories are searched exactly, larger ones through the graph.
    pub exact_rows_max: u32,
    /// Memory for vectors of owners that are searched again and again, so that Postgres need not read them each time. 0:
    /// none are kept.
    pub kept_vectors_bytes: usize,
    /// How long working memories are kept that name no time of their own.
    pub working_ttl_seconds: u64,
    /// Whether a memory that says the same as another one of its owner is counted there instead of kept beside it.
    pub deduplicate: bool,
    /// How often it is looked for memories whose time is over, at the least; the next one's time is waited for anyway.
    pub expire_tick_ms: u64,
    /// How often it is looked for agents with enough memories to consolidate, and how consolidations have ended.
    pub consolidate_tick_ms: u64,
    /// Private addresses that documents may be fetched from: `loopback`, or networks such as `10.1.0.0/16`. Empty: none.
    pub private_networks: Vec<String>,
    /// Requests of one kind at once in this process; more wait.
    pub concurrency: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbedderKind {
    /// `mesh` where EMBEDDING_API_URL or a model is configured, else `local` where its weights are there, else `hash`.
    #[default]
    Auto,
    /// A model in this process, all-MiniLM-L6-v2: no network, no key.
    Local,
    /// A model that `inference` asks a provider for.
    Mesh,
    /// Local feature hashing: words and parts of words, no meaning.
    Hash,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database: DatabaseConfig::default(),
            embedder: EmbedderKind::Auto,
            embedding_api_url: None,
            embedding_model: None,
            embedding_dimensions: None,
            embedding_weights: None,
            embed_idle_unload_seconds: 300,
            embed_cache_bytes: 8 * 1024 * 1024,
            keep_old_vectors: false,
            // The local model is loaded within it, if the first request finds it unloaded.
            embed_timeout_ms: 2_000,
            embed_batch_timeout_ms: 30_000,
            embed_retry_ms: 1_000,
            embed_tick_ms: 5_000,
            reembed_tick_ms: 30_000,
            // research/speed.md: an exact sort of 1,000 rows beats the filtered graph five times at recall 1; its
            // cost grows with the rows, so the two meet about here.
            exact_rows_max: 10_000,
            kept_vectors_bytes: 64 * 1024 * 1024,
            working_ttl_seconds: 24 * 3_600,
            deduplicate: true,
            expire_tick_ms: 60_000,
            consolidate_tick_ms: 10_000,
            private_networks: Vec::new(),
            concurrency: 64,
        }
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), String> {
        let positive = [
            ("embed_timeout_ms", self.embed_timeout_ms),
            ("embed_retry_ms", self.embed_retry_ms),
            ("embed_tick_ms", self.embed_tick_ms),
            ("embed_batch_timeout_ms", self.embed_batch_timeout_ms),
            ("embed_idle_unload_seconds", self.embed_idle_unload_seconds),
            ("reembed_tick_ms", self.reembed_tick_ms),
            ("working_ttl_seconds", self.working_ttl_seconds),
            ("expire_tick_ms", self.expire_tick_ms),
            ("consolidate_tick_ms", self.consolidate_tick_ms),
            ("concurrency", self.concurrency as u64),
        ];
        match positive.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(format!("{name}: at least 1")),
            None => {
                mesh_tools::check_networks(&self.private_networks).map_err(|error| format!("private_networks: {error}"))
            }
        }
    }
}

impl Config {
    pub(crate) fn embed_timeout(&self) -> Duration {
        Duration::from_millis(self.embed_timeout_ms)
    }

    pub(crate) fn working_ttl(&self) -> Duration {
        Duration::from_secs(self.working_ttl_seconds)
    }

    pub(crate) fn expire_tick(&self) -> Duration {
        Duration::from_millis(self.expire_tick_ms)
    }

    pub(crate) fn embed_batch_timeout(&self) -> Duration {
        Duration::from_millis(self.embed_batch_timeout_ms)
    }

    pub(crate) fn embed_idle_unload(&self) -> Duration {
        Duration::from_secs(self.embed_idle_unload_seconds)
    }

    /// Whether `auto` means a model that `inference` is asked for.
    pub(crate) fn asks_mesh(&self) -> bool {
        let is_url = self.embedding_api_url.as_ref().is_some_and(|url| !url.is_empty());
        is_url || self.embedding_model.as_ref().is_some_and(|model| !model.is_empty())
    }

    /// Whether the weights of the local model are of use: `mesh up` fetches them then.
    pub fn wants_weights(&self) -> bool {
        let is_local = match self.embedder {
            EmbedderKind::Auto => !self.asks_mesh(),
            EmbedderKind::Local => true,
            EmbedderKind::Mesh | EmbedderKind::Hash => false,
        };
        is_local && self.embedding_weights.is_none()
    }

    pub(crate) fn consolidate_tick(&self) -> Duration {
        Duration::from_millis(self.consolidate_tick_ms)
    }

    /// Pause after so many failed tries.
    pub(crate) fn embed_retry(&self, attempts: u32) -> Duration {
        let doubled = self
            .embed_retry_ms
            .saturating_mul(1 << attempts.saturating_sub(1).min(16));
        Duration::from_millis(doubled.min(60_000))
    }
}
