//! Ollama's own API: `/api/chat`, `/api/generate` for models without a chat template, `/api/embed`, `/api/tags`.

mod body;
mod stream;

use std::time::Duration;

use mesh_runtime::Secret;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use url::Url;

#[cfg(test)]
pub(crate) use stream::Assembly;

use crate::answer::{Answer, Chunks, Try, TryError};
use crate::frames::{Frames, Framing};
use crate::http::{KeyHeader, Server, media_type, not_a_stream};
use crate::{MODELS_BYTES_MAX, Texts, Vectors, Waits, conversation, read, vectors};

/// How a model is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Prompting {
    /// `/api/chat`: the model's own template makes a prompt of the conversation.
    #[default]
    Chat,
    /// `/api/generate`: the conversation as one text, for models that only go on with a text. No tools, no images
    /// before the last turn.
    Generate,
}

/// A client of one base URL.
#[derive(Debug, Clone)]
pub struct Ollama {
    server: Server,
    prompting: Prompting,
}

impl Ollama {
    /// `base` is the URL up to and without `/api`. A key is only of use behind a proxy, as a bearer's.
    ///
    /// # Errors
    /// The TLS roots of the machine cannot be read.
    pub fn new(base: &Url, api_key: Option<Secret<String>>, waits: Waits) -> Result<Self, reqwest::Error> {
        let mut base = base.clone();
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(path.strip_suffix("/api").unwrap_or(&path));
        Ok(Self {
            server: Server::new(&base, KeyHeader::Bearer, api_key, waits)?,
            prompting: Prompting::default(),
        })
    }

    #[must_use]
    pub fn with_prompting(mut self, prompting: Prompting) -> Self {
        self.prompting = prompting;
        self
    }

    /// One streamed call; text goes to `chunks` as it comes, the answer holds all of it.
    ///
    /// # Errors
    /// Whatever kept the answer from being whole.
    pub async fn attempt<C: Chunks>(&self, call: Try<'_>, chunks: &mut C) -> Result<Answer, TryError> {
        let waits = self.server.waits();
        let first_token_by = Instant::now() + waits.first_byte;
        let request = match self.prompting {
            Prompting::Chat => self.server.post("/api/chat", body::chat(call.model, call.request)?)?,
            Prompting::Generate => self
                .server
                .post("/api/generate", body::generate(call.model, call.request)?)?,
        };
        let response = self.server.send(request, first_token_by).await?;
        let assembly = stream::Assembly::new(conversation::turns(call.request));
        let answer = match media_type(&response) {
            // One document, where a proxy has put the answer together, is one line.
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/json" => {
                let bytes = self.server.bytes(response);
                let frames = Frames::new(Framing::Lines);
                read::read(bytes, frames, assembly, (waits, first_token_by), chunks).await
            }
            other => Err(not_a_stream(other)),
        };
        answer.map_err(|error| self.server.clean(error))
    }

    /// Vectors of at most [`crate::TEXTS_MAX`] texts; Ollama reads of a text what its model can take.
    ///
    /// # Errors
    /// Whatever kept them from being whole.
    pub async fn embed(&self, asked: Texts<'_>) -> Result<Vectors, TryError> {
        #[derive(Serialize)]
        struct Body<'a> {
            model: &'a str,
            input: &'a [String],
            #[serde(skip_serializing_if = "Option::is_none")]
            dimensions: Option<u32>,
        }
        #[derive(Deserialize)]
        struct Embedded {
            embeddings: Vec<Vec<f32>>,
            #[serde(default)]
            prompt_eval_count: Option<u64>,
        }
        let body = Body {
            model: asked.model,
            input: asked.texts,
            dimensions: asked.dimensions,
        };
        let request = self.server.post("/api/embed", body::json(&body)?)?;
        let patience = self.server.waits().first_byte;
        let answer: Embedded = self.server.json(request, patience, vectors::ANSWER_BYTES_MAX).await?;
        Vectors::checked(asked, answer.embeddings, answer.prompt_eval_count)
    }

    /// Names of the models that the server has.
    ///
    /// # Errors
    /// It does not say so within `patience`.
    pub async fn models(&self, patience: Duration) -> Result<Vec<String>, TryError> {
        #[derive(Deserialize)]
        struct List {
            models: Vec<Model>,
        }
        #[derive(Deserialize)]
        struct Model {
            name: String,
        }
        let request = self.server.get("/api/tags", &[])?;
        let list: List = self.server.json(request, patience, MODELS_BYTES_MAX).await?;
        let names = list.models.into_iter().map(|model| model.name);
        // `llama3:latest` is what `llama3` means there.
        let plain = |name: String| name.strip_suffix(":latest").map(str::to_owned).unwrap_or(name);
        Ok(names.map(plain).collect())
    }
}
