//! Anthropic's Messages API, version 2023-06-01, in and out of the mesh's shape.

mod body;
mod stream;

use std::time::Duration;

use mesh_runtime::Secret;
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

#[cfg(test)]
pub(crate) use stream::Assembly;

use crate::answer::{Answer, Chunks, Try, TryError};
use crate::http::{KeyHeader, Server};
use crate::{MODELS_BYTES_MAX, Waits, read};

const VERSION: &str = "2023-06-01";
/// The API demands a bound; every model takes this one.
const MAX_TOKENS: u32 = 4_096;

/// A client of one base URL.
#[derive(Debug, Clone)]
pub struct Anthropic {
    server: Server,
    max_tokens: u32,
}

impl Anthropic {
    /// `base` is the URL up to and without `/v1/messages`.
    ///
    /// # Errors
    /// The TLS roots of the machine cannot be read.
    pub fn new(base: &Url, api_key: Option<Secret<String>>, waits: Waits) -> Result<Self, reqwest::Error> {
        let mut base = base.clone();
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(path.strip_suffix("/v1").unwrap_or(&path));
        Ok(Self {
            server: Server::new(&base, KeyHeader::Named("x-api-key"), api_key, waits)?,
            max_tokens: MAX_TOKENS,
        })
    }

    /// What an answer may have where the request sets no bound; 4,096 unless said here.
    #[must_use]
    pub fn with_max_tokens(mut self, max_tokens: u32) -> Self {
        self.max_tokens = max_tokens;
        self
    }

    /// One streamed call; text goes to `chunks` as it comes, the answer holds all of it.
    ///
    /// # Errors
    /// Whatever kept the answer from being whole.
    pub async fn attempt<C: Chunks>(&self, call: Try<'_>, chunks: &mut C) -> Result<Answer, TryError> {
        let waits = self.server.waits();
        let first_token_by = Instant::now() + waits.first_byte;
        let body = body::messages(call.model, call.request, self.max_tokens)?;
        let request = self.server.post("/v1/messages", body)?;
        let request = request
            .header("anthropic-version", VERSION)
            .header("accept", "text/event-stream");
        let response = self.server.send(request, first_token_by).await?;
        let assembly = stream::Assembly::new(call.request);
        read::events_or_document(&self.server, response, assembly, first_token_by, chunks).await
    }

    /// Names of the models that the server offers.
    ///
    /// # Errors
    /// It does not say so within `patience`.
    pub async fn models(&self, patience: Duration) -> Result<Vec<String>, TryError> {
        #[derive(Deserialize)]
        struct List {
            data: Vec<Model>,
        }
        #[derive(Deserialize)]
        struct Model {
            id: String,
        }
        // The longest page there is; Anthropic has fewer models.
        let request = self.server.get("/v1/models", &[("limit", "1000")])?;
        let request = request.header("anthropic-version", VERSION);
        let list: List = self.server.json(request, patience, MODELS_BYTES_MAX).await?;
        Ok(list.data.into_iter().map(|model| model.id).collect())
    }
}
