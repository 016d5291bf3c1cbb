//! An embedder behind `inference`: any endpoint that its configuration names, asked over the bus. No key and no address
//! of a provider is known here.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use mesh_api::inference::{Embed, EmbedRequest, Embedded};
use mesh_runtime::Context;
use mesh_types::{Code, Problem, Tenant};

use super::{Dimensions, EmbedError, Embedder, Embedding, Model, Urgency};

/// Texts of one request: their vectors, as JSON, are 1.3 MB at most, and a message may have eight.
const TEXTS_AT_ONCE: usize = 32;

/// Models whose vectors' length is known, so that it need not be configured.
const KNOWN: [(&str, Dimensions); 10] = [
    ("text-embedding-3-small", Dimensions::D1536),
    ("text-embedding-3-large", Dimensions::D3072),
    ("text-embedding-ada-002", Dimensions::D1536),
    ("nomic-embed-text", Dimensions::D768),
    ("embeddinggemma", Dimensions::D768),
    ("mxbai-embed-large", Dimensions::D1024),
    ("bge-m3", Dimensions::D1024),
    ("snowflake-arctic-embed2", Dimensions::D1024),
    ("all-minilm", Dimensions::D384),
    ("mock:embed", Dimensions::D384),
];
/// What an OpenAI-compatible endpoint is asked for when no model is configured.
const MODEL: &str = "text-embedding-3-small";

/// A model of a provider, and how long its vectors are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteModel {
    model: Model,
    /// Told to the provider, which shortens its vectors.
    shortened: bool,
}

impl RemoteModel {
    /// `dimensions` may be left out for models that are known.
    ///
    /// # Errors
    /// What must be configured.
    pub fn new(name: Option<&str>, dimensions: Option<u32>) -> Result<Self, String> {
        let name = name.unwrap_or(MODEL);
        // `nomic-embed-text:v1.5`, `ollama/bge-m3`: the same model.
        let plain = name.rsplit('/').next().unwrap_or(name);
        let is_same =
            |known: &str| plain == known || plain.strip_prefix(known).is_some_and(|rest| rest.starts_with(':'));
        let native = KNOWN
            .iter()
            .find(|(known, _)| is_same(known))
            .map(|(_, native)| *native);
        let wanted = match dimensions {
            Some(count) => Some(
                Dimensions::of(count as usize)
                    .ok_or_else(|| format!("embedding_dimensions: {count} is none of {}", Dimensions::list()))?,
            ),
            None => native,
        };
        let dimensions = wanted.ok_or_else(|| {
            format!(
                "embedding_dimensions: how many numbers a vector of `{name}` has is not known: set it to one of {}",
                Dimensions::list()
            )
        })?;
        Ok(Self {
            shortened: native.is_some_and(|native| native > dimensions),
            model: Model {
                name: name.into(),
                dimensions,
            },
        })
    }
}

/// Asks `inference`.
pub struct RemoteEmbedder {
    model: RemoteModel,
    context: Context,
    timeout: Duration,
}

impl RemoteEmbedder {
    pub fn new(model: RemoteModel, context: Context, timeout: Duration) -> Self {
        Self {
            model,
            context,
            timeout,
        }
    }

    async fn ask(&self, tenant: Tenant, texts: Vec<String>) -> Result<Vec<Embedding>, EmbedError> {
        let caller = self.context.caller(tenant);
        let mut embeddings = Vec::with_capacity(texts.len());
        let mut texts = texts.into_iter().peekable();
        while texts.peek().is_some() {
            let request = EmbedRequest {
                model: self.model.model.name.to_string(),
                texts: texts.by_ref().take(TEXTS_AT_ONCE).collect(),
                dimensions: self
                    .model
                    .shortened
                    .then_some(self.model.model.dimensions.count() as u32),
            };
            let embedded = self.context.bus.call_within::<Embed>(&caller, &request, self.timeout);
            let embedded = embedded.await.map_err(to_error)?;
            embeddings.extend(self.checked(embedded, request.texts.len())?);
        }
        Ok(embeddings)
    }

    fn checked(&self, embedded: Embedded, count: usize) -> Result<Vec<Embedding>, EmbedError> {
        let unavailable = |text: String| Err(EmbedError::Unavailable(text));
        if embedded.vectors.len() != count {
            return unavailable(format!("{} vectors for {count} texts", embedded.vectors.len()));
        }
        let Model { name, dimensions } = &self.model.model;
        let mut checked = Vec::with_capacity(count);
        for vector in embedded.vectors {
            if vector.len() != dimensions.count() {
                return unavailable(format!(
                    "`{name}` gave vectors of {} numbers, and {} are configured: set embedding_dimensions",
                    vector.len(),
                    dimensions.count()
                ));
            }
            match Embedding::normalized(vector) {
                Some(embedding) => checked.push(embedding),
                None => {
                    return Err(EmbedError::Refused(format!(
                        "`{name}` gave a vector without a direction"
                    )));
                }
            }
        }
        Ok(checked)
    }
}

/// What the provider will refuse again is told apart from what may go well later.
fn to_error(problem: Problem) -> EmbedError {
    if problem.is(Code::ModelRefused) || problem.is(Code::InvalidRequest) || problem.is(Code::BodyTooLarge) {
        return EmbedError::Refused(problem.to_string());
    }
    EmbedError::Unavailable(problem.to_string())
}

impl Embedder for RemoteEmbedder {
    fn model(&self) -> &Model {
        &self.model.model
    }

    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Embedding>, EmbedError>> {
        self.ask(Tenant::default(), texts).boxed()
    }

    fn embed_for(
        &self,
        tenant: &Tenant,
        _: Urgency,
        texts: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<Embedding>, EmbedError>> {
        self.ask(tenant.clone(), texts).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str, dimensions: Option<u32>) -> Result<(usize, bool), String> {
        RemoteModel::new(Some(name), dimensions).map(|model| (model.model.dimensions.count(), model.shortened))
    }

    #[test]
    fn known_models_need_no_number_and_others_do() {
        assert_eq!(model("text-embedding-3-large", None), Ok((3_072, false)));
        assert_eq!(model("text-embedding-3-large", Some(1_024)), Ok((1_024, true)));
        assert_eq!(model("nomic-embed-text:v1.5", None), Ok((768, false)));
        assert_eq!(model("openai/text-embedding-3-small", None), Ok((1_536, false)));
        assert_eq!(model("my-model", Some(768)), Ok((768, false)));
        assert!(
            model("my-model", None)
                .unwrap_err()
                .contains("384, 768, 1024, 1536, 3072")
        );
        assert!(model("my-model", Some(500)).unwrap_err().contains("500"));
        assert_eq!(&*RemoteModel::new(None, None).unwrap().model.name, MODEL);
    }
}
