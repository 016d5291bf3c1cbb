//! Configuration of `memory`.

use std::time::Duration;

use mesh_runtime::{DatabaseConfig, Validate};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub database: DatabaseConfig,
    /// What makes the vectors.
    pub embedder: EmbedderKind,
    /// `EMBEDDING_API_URL`: an OpenAI-compatible embedder; not asked yet, as the log says at the start.
    pub embedding_api_url: Option<String>,
    /// Longest wait for the embedder before a memory is taken without its vector, or a query goes by words.
    pub embed_timeout_ms: u64,
    /// Before a memory without a vector is tried again; doubles, up to a minute.
    pub embed_retry_ms: u64,
    /// How often the queue of memories without a vector is looked at.
    pub embed_tick_ms: u64,
    /// Owners of at most so many memories are searched exactly, larger ones through the graph.
    pub exact_rows_max: u32,
    /// Requests of one kind at once in this process; more wait.
    pub concurrency: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbedderKind {
    /// Local feature hashing: words and parts of words, no meaning.
    #[default]
    Hash,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database: DatabaseConfig::default(),
            embedder: EmbedderKind::Hash,
            embedding_api_url: None,
            embed_timeout_ms: 1_000,
            embed_retry_ms: 1_000,
            embed_tick_ms: 5_000,
            // research/speed.md: an exact sort of 1,000 rows beats the filtered graph five times at recall 1; its
            // cost grows with the rows, so the two meet about here.
            exact_rows_max: 10_000,
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
            ("concurrency", self.concurrency as u64),
        ];
        match positive.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(format!("{name}: at least 1")),
            None => Ok(()),
        }
    }
}

impl Config {
    pub(crate) fn embed_timeout(&self) -> Duration {
        Duration::from_millis(self.embed_timeout_ms)
    }

    /// Pause after so many failed tries.
    pub(crate) fn embed_retry(&self, attempts: u32) -> Duration {
        let doubled = self
            .embed_retry_ms
            .saturating_mul(1 << attempts.saturating_sub(1).min(16));
        Duration::from_millis(doubled.min(60_000))
    }
}
