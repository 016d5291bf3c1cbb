//! One provider: the client of its wire, or why there is none. Each wire is `mesh-models`'.

use std::time::Duration;

use mesh_models::{Answer, Anthropic, Chunks, Ollama, OpenAi, Prompting, SchemaSupport, Texts, Try, TryError, Vectors};
use url::Url;

use crate::config::{ANTHROPIC_BASE_URL, Config, OPENAI_BASE_URL, ProviderConfig, ProviderKind, StructuredOutput};
use crate::mock::Mock;

#[derive(Debug)]
pub(crate) enum Provider {
    OpenAi(OpenAi),
    Anthropic(Anthropic),
    Ollama(Ollama),
    Mock(Mock),
    /// Declared, and why it cannot be asked.
    Missing(&'static str),
}

impl Provider {
    /// Makes its client; opens no connection.
    pub(crate) fn open(declared: &ProviderConfig, config: &Config) -> Result<Self, crate::Error> {
        let waits = config.limits.waits();
        let key = declared.api_key.clone();
        let base = |default: &str| {
            let text = declared.base_url.as_deref().unwrap_or(default);
            Url::parse(text).map_err(|error| crate::Error::Config(error.to_string()))
        };
        let has_url = declared.base_url.is_some();
        match declared.kind {
            ProviderKind::Mock => Ok(Self::Mock(Mock::new(config))),
            ProviderKind::Openai if has_url || key.is_some() => open_ai(base(OPENAI_BASE_URL)?, declared, config),
            ProviderKind::Openai => Ok(Self::Missing("it has neither an API key nor a base URL")),
            ProviderKind::Anthropic if has_url || key.is_some() => {
                let client = Anthropic::new(&base(ANTHROPIC_BASE_URL)?, key, waits).map_err(crate::Error::Client)?;
                Ok(Self::Anthropic(match declared.max_tokens {
                    Some(max_tokens) => client.with_max_tokens(max_tokens),
                    None => client,
                }))
            }
            ProviderKind::Anthropic => Ok(Self::Missing("it has no API key; set ANTHROPIC_API_KEY")),
            ProviderKind::Ollama if !has_url => Ok(Self::Missing("it has no URL; set OLLAMA_URL")),
            ProviderKind::Ollama => {
                let base = base("")?;
                if base.path().trim_end_matches('/').ends_with("/v1") {
                    return open_ai(base, declared, config);
                }
                let prompting = if declared.generate {
                    Prompting::Generate
                } else {
                    Prompting::Chat
                };
                let client = Ollama::new(&base, key, waits).map_err(crate::Error::Client)?;
                Ok(Self::Ollama(client.with_prompting(prompting)))
            }
        }
    }

    /// Answers without a network.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Mock(_))
    }

    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }

    /// One streamed call.
    pub(crate) async fn attempt<C: Chunks>(&self, call: Try<'_>, chunks: &mut C) -> Result<Answer, TryError> {
        match self {
            Self::OpenAi(provider) => provider.attempt(call, chunks).await,
            Self::Anthropic(provider) => provider.attempt(call, chunks).await,
            Self::Ollama(provider) => provider.attempt(call, chunks).await,
            Self::Mock(mock) => mock.attempt(call, chunks).await,
            Self::Missing(why) => Err(TryError::Connection((*why).to_owned())),
        }
    }

    /// Vectors of texts, in their order.
    pub(crate) async fn embed(&self, asked: Texts<'_>) -> Result<Vectors, TryError> {
        match self {
            Self::OpenAi(provider) => provider.embed(asked).await,
            Self::Ollama(provider) => provider.embed(asked).await,
            Self::Mock(mock) => mock.embed(asked),
            Self::Anthropic(_) => Err(TryError::Unsupported(
                "Anthropic has no embeddings; name a model of another provider, or set EMBEDDING_API_URL".to_owned(),
            )),
            Self::Missing(why) => Err(TryError::Connection((*why).to_owned())),
        }
    }

    /// Names of the models that it offers now.
    pub(crate) async fn models(&self, patience: Duration) -> Result<Vec<String>, TryError> {
        match self {
            Self::OpenAi(provider) => provider.models(patience).await,
            Self::Anthropic(provider) => provider.models(patience).await,
            Self::Ollama(provider) => provider.models(patience).await,
            Self::Mock(mock) => Ok(mock.models().collect()),
            Self::Missing(why) => Err(TryError::Connection((*why).to_owned())),
        }
    }
}

fn open_ai(mut base: Url, declared: &ProviderConfig, config: &Config) -> Result<Provider, crate::Error> {
    // Embedders are often named by the whole address of their endpoint.
    for endpoint in ["/embeddings", "/chat/completions"] {
        let path = base.path().trim_end_matches('/').to_owned();
        if let Some(above) = path.strip_suffix(endpoint) {
            base.set_path(above);
        }
    }
    let is_deepseek = base.host_str().is_some_and(|host| host.ends_with("deepseek.com"));
    let support = match declared.structured_output {
        Some(StructuredOutput::JsonObject) => SchemaSupport::Object,
        None if is_deepseek => SchemaSupport::Object,
        Some(StructuredOutput::JsonSchema) | None => SchemaSupport::Schema,
    };
    let client = OpenAi::new(&base, declared.api_key.clone(), config.limits.waits()).map_err(crate::Error::Client)?;
    Ok(Provider::OpenAi(client.with_schema_support(support)))
}
