//! Any server that speaks OpenAI's wire: `/chat/completions`, `/embeddings`, `/models`.

mod body;
mod embeddings;
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
use crate::{MODELS_BYTES_MAX, Texts, Vectors, Waits, conversation, read, vectors};

/// How far a server takes a schema for its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SchemaSupport {
    /// `response_format: json_schema`, as OpenAI, vLLM, llama.cpp and OpenRouter do.
    #[default]
    Schema,
    /// `response_format: json_object` alone, as DeepSeek does: the schema goes into the prompt.
    Object,
}

/// A client of one base URL.
#[derive(Debug, Clone)]
pub struct OpenAi {
    server: Server,
    schema_support: SchemaSupport,
}

impl OpenAi {
    /// `base` is the URL up to and without `/chat/completions`.
    ///
    /// # Errors
    /// The TLS roots of the machine cannot be read.
    pub fn new(base: &Url, api_key: Option<Secret<String>>, waits: Waits) -> Result<Self, reqwest::Error> {
        Ok(Self {
            server: Server::new(base, KeyHeader::Bearer, api_key, waits)?,
            schema_support: SchemaSupport::default(),
        })
    }

    #[must_use]
    pub fn with_schema_support(mut self, schema_support: SchemaSupport) -> Self {
        self.schema_support = schema_support;
        self
    }

    /// One streamed call; text goes to `chunks` as it comes, the answer holds all of it.
    ///
    /// # Errors
    /// Whatever kept the answer from being whole.
    pub async fn attempt<C: Chunks>(&self, call: Try<'_>, chunks: &mut C) -> Result<Answer, TryError> {
        let waits = self.server.waits();
        let first_token_by = Instant::now() + waits.first_byte;
        let body = body::chat(call.model, call.request, self.schema_support)?;
        let mut request = self.server.post("/chat/completions", body)?;
        request = request.header("accept", "text/event-stream");
        if let Some(key) = &call.request.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let response = self.server.send(request, first_token_by).await?;
        let assembly = stream::Assembly::new(conversation::turns(call.request));
        read::events_or_document(&self.server, response, assembly, first_token_by, chunks).await
    }

    /// Vectors of at most [`crate::TEXTS_MAX`] texts.
    ///
    /// # Errors
    /// Whatever kept them from being whole.
    pub async fn embed(&self, asked: Texts<'_>) -> Result<Vectors, TryError> {
        let request = self.server.post("/embeddings", embeddings::body(asked)?)?;
        let patience = self.server.waits().first_byte;
        let answer: embeddings::Answer = self.server.json(request, patience, vectors::ANSWER_BYTES_MAX).await?;
        answer.vectors(asked)
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
        let request = self.server.get("/models", &[])?;
        let list: List = self.server.json(request, patience, MODELS_BYTES_MAX).await?;
        Ok(list.data.into_iter().map(|model| model.id).collect())
    }
}
