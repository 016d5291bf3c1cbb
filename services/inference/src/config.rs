//! Configuration of `inference`: providers, which model goes where, prices, scripts of the mock, bounds.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_api::Endpoint;
use mesh_api::inference::Complete;
use mesh_runtime::{Secret, Validate};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::mock::Script;

pub use governance::{BreakerRules, CacheRules, Rates};

mod governance;

/// Where `openai` points when nothing else is said.
pub const OPENAI_BASE_URL: &str = "https://api.openai.com/v1";
/// Where `anthropic` points when nothing else is said.
pub const ANTHROPIC_BASE_URL: &str = "https://api.anthropic.com";
/// The provider that [`Config::embedding_api_url`] makes.
pub(crate) const EMBEDDING_PROVIDER: &str = "embedding";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// By name. `openai`, `anthropic`, `ollama` and `mock` are always there; what is said here goes first.
    pub providers: BTreeMap<String, ProviderConfig>,
    /// Which provider serves a model: the first rule that matches. Built-in rules follow.
    pub routes: Vec<RouteRule>,
    /// Serves models that no rule names; else the first configured provider does.
    pub default_provider: Option<String>,
    /// US dollars for a million tokens, by model; `gpt-4*` stands for all that begin so, the longest name wins. What is
    /// said here goes before the built-in list.
    pub prices: BTreeMap<String, Price>,
    /// Scripts of the mock by name; the built-in one of the same name gives way.
    pub mock_scripts: BTreeMap<String, Script>,
    /// Pause of the mock after each word of a keyword answer.
    pub mock_word_delay_ms: u64,
    /// Without any configured provider, each chain ends in the mock.
    pub mock_when_unconfigured: bool,
    /// `OPENAI_API_KEY`: the key of provider `openai`.
    pub openai_api_key: Option<Secret<String>>,
    /// `OPENAI_BASE_URL`: the base URL of provider `openai`.
    pub openai_base_url: Option<String>,
    /// `ANTHROPIC_API_KEY`: the key of provider `anthropic`.
    pub anthropic_api_key: Option<Secret<String>>,
    /// `OLLAMA_URL`: where provider `ollama` listens; by OpenAI's wire if it ends in `/v1`, else by its own.
    pub ollama_url: Option<String>,
    /// `EMBEDDING_API_URL`: any server with OpenAI's `/embeddings`. It makes the provider `embedding`, whose key is that
    /// of `openai` and which serves vectors of models that no rule names.
    pub embedding_api_url: Option<String>,
    pub limits: Limits,
    /// When a provider that fails is left alone, and for how long.
    pub breaker: BreakerRules,
    /// What a tenant may ask of remote providers, by its name; `*` stands for each that is not named. Without `*`, such
    /// a tenant has at most half of `concurrency` at once.
    pub tenants: BTreeMap<String, Rates>,
    /// Answers kept for requests that ask for it; without entries none is kept.
    pub cache: CacheRules,
    /// Calls at once in this process; more wait.
    pub concurrency: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            providers: BTreeMap::new(),
            routes: Vec::new(),
            default_provider: None,
            prices: BTreeMap::new(),
            mock_scripts: BTreeMap::new(),
            mock_word_delay_ms: 0,
            mock_when_unconfigured: true,
            openai_api_key: None,
            openai_base_url: None,
            anthropic_api_key: None,
            ollama_url: None,
            embedding_api_url: None,
            limits: Limits::default(),
            breaker: BreakerRules::default(),
            tenants: BTreeMap::new(),
            cache: CacheRules::default(),
            concurrency: 1_024,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    pub kind: ProviderKind,
    /// Up to and without `/chat/completions`.
    #[serde(default)]
    pub base_url: Option<String>,
    #[serde(default)]
    pub api_key: Option<Secret<String>>,
    /// Names for the list of models.
    #[serde(default)]
    pub models: Vec<String>,
    /// Of `ollama`: its models have no chat template and go on with a text (`/api/generate`).
    #[serde(default)]
    pub generate: bool,
    /// Of `anthropic`: tokens of an answer where the request sets no bound; 4,096 unless said.
    #[serde(default)]
    pub max_tokens: Option<u32>,
    /// Of `openai`: how a schema for the answer is told; as the server is known to take it unless said.
    #[serde(default)]
    pub structured_output: Option<StructuredOutput>,
    /// Calls of this provider at once; more wait, each tenant in its turn.
    #[serde(default)]
    pub concurrency: Option<u32>,
    #[serde(default)]
    pub requests_per_minute: Option<u32>,
    /// Input and output together; guessed before a call, corrected after it.
    #[serde(default)]
    pub tokens_per_minute: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// Any server that speaks OpenAI's chat completions.
    Openai,
    Anthropic,
    /// Ollama by its own wire, or by OpenAI's where its URL ends in `/v1`.
    Ollama,
    Mock,
}

/// How a server of OpenAI's wire is told the schema of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StructuredOutput {
    /// As the schema it is.
    JsonSchema,
    /// As "some object", and the schema in the prompt: DeepSeek and others.
    JsonObject,
}

impl ProviderConfig {
    /// With nothing said but its kind.
    pub fn of(kind: ProviderKind) -> Self {
        Self {
            kind,
            base_url: None,
            api_key: None,
            models: Vec::new(),
            generate: false,
            max_tokens: None,
            structured_output: None,
            concurrency: None,
            requests_per_minute: None,
            tokens_per_minute: None,
        }
    }

    pub(crate) fn rates(&self) -> Rates {
        Rates {
            concurrency: self.concurrency,
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
        }
    }
}

impl ProviderKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
            Self::Ollama => "ollama",
            Self::Mock => "mock",
        }
    }
}

/// Models of this name, or of names that begin with it when it ends in `*`, go to `provider`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteRule {
    pub model: String,
    pub provider: String,
    /// The name that the provider knows, when it is another.
    #[serde(default)]
    pub as_model: Option<String>,
}

/// US dollars for a million tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    pub input: f64,
    /// Input that the provider took from its cache; without it, as other input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<f64>,
    /// Input that the provider wrote into its cache; without it, as other input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<f64>,
    pub output: f64,
}

/// Bounds of every call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub connect_timeout_ms: u64,
    /// From the start of a try to the first token of its answer: pings and comments are none. Models that think before
    /// they speak, and local ones that are loaded first, take their time.
    pub first_byte_timeout_ms: u64,
    /// Between two tokens of an answer; again no ping counts.
    pub idle_timeout_ms: u64,
    /// A whole call with all its tries at remote models.
    pub call_timeout_ms: u64,
    /// Further tries at one model after a transient error.
    pub retries_max: u32,
    /// The pause before the first further try is up to this; doubles.
    pub retry_delay_ms: u64,
    /// Longest pause that a provider may wish for where another model is left to ask; without one, the call's time is
    /// the bound.
    pub retry_wait_max_ms: u64,
    /// Calls of one tenant that wait for one provider; more are refused.
    pub queue_max: usize,
    /// How long a call waits for its turn at a provider, at most.
    pub queue_wait_ms: u64,
    pub response_bytes_max: usize,
    /// Fallbacks of one call.
    pub fallbacks_max: usize,
    /// How long after its end a call's repeat, by its idempotency key, gets the same answer without a model.
    pub repeat_window_ms: u64,
    /// Answers that are kept for that.
    pub repeat_answers_max: usize,
}

/// What the mock at the end of a chain may take after the remote models have used up the call's time.
pub(crate) const LOCAL_GRACE: Duration = Duration::from_secs(10);
const CALL_TIMEOUT_MS: u64 = 105_000;
// The caller must still be there when the last answer comes.
const _: () = assert!(CALL_TIMEOUT_MS / 1_000 + LOCAL_GRACE.as_secs() < Complete::DEADLINE.as_secs());

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 5_000,
            first_byte_timeout_ms: 60_000,
            idle_timeout_ms: 30_000,
            call_timeout_ms: CALL_TIMEOUT_MS,
            retries_max: 1,
            retry_delay_ms: 300,
            retry_wait_max_ms: 10_000,
            queue_max: 256,
            queue_wait_ms: 30_000,
            response_bytes_max: 8 * 1024 * 1024,
            fallbacks_max: 16,
            repeat_window_ms: 120_000,
            repeat_answers_max: 1_000,
        }
    }
}

impl Limits {
    pub(crate) fn first_byte_timeout(&self) -> Duration {
        Duration::from_millis(self.first_byte_timeout_ms)
    }
    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }
    /// Of one try.
    pub(crate) fn waits(&self) -> mesh_models::Waits {
        mesh_models::Waits {
            connect: Duration::from_millis(self.connect_timeout_ms),
            first_byte: self.first_byte_timeout(),
            idle: self.idle_timeout(),
            response_bytes_max: self.response_bytes_max,
        }
    }
    pub(crate) fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_ms)
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), String> {
        let all = self.all_providers();
        for (name, provider) in &all {
            if let Some(url) = &provider.base_url {
                let parsed = Url::parse(url).map_err(|error| format!("providers.{name}.base_url: {error}"))?;
                if !matches!(parsed.scheme(), "http" | "https") || parsed.host().is_none() {
                    return Err(format!("providers.{name}.base_url: not an http or https URL"));
                }
            }
        }
        let named = self
            .routes
            .iter()
            .map(|rule| &rule.provider)
            .chain(&self.default_provider);
        for name in named {
            if !all.contains_key(name) {
                return Err(format!("there is no provider `{name}`"));
            }
        }
        if self.concurrency == 0 {
            return Err("concurrency: at least 1".to_owned());
        }
        if let Some((name, _)) = self.mock_scripts.iter().find(|(_, script)| script.turns.is_empty()) {
            return Err(format!("mock_scripts.{name}: a script has at least one turn"));
        }
        for (model, price) in &self.prices {
            let mut dollars = [
                Some(price.input),
                Some(price.output),
                price.cached_input,
                price.cache_write,
            ]
            .into_iter()
            .flatten();
            if dollars.any(|dollars| !dollars.is_finite() || dollars < 0.0) {
                return Err(format!("prices.{model}: not a price"));
            }
        }
        for (name, provider) in &all {
            provider.rates().validate(&format!("providers.{name}"))?;
        }
        for (tenant, rates) in &self.tenants {
            if tenant != "*" {
                let parsed: Result<mesh_types::Tenant, _> = tenant.parse();
                parsed.map_err(|error| format!("tenants: {error}"))?;
            }
            rates.validate(&format!("tenants.{tenant}"))?;
        }
        self.breaker.validate()
    }
}

impl Config {
    /// Of tenants that are not named: one of them alone must not take all the room there is.
    pub(crate) fn rates_of_others(&self) -> Rates {
        let half = u32::try_from(self.concurrency / 2).unwrap_or(u32::MAX);
        self.tenants.get("*").copied().unwrap_or(Rates {
            concurrency: Some(half.max(1)),
            ..Rates::default()
        })
    }

    /// Everything declared, with the four that are always there and what the environment says of them.
    pub fn all_providers(&self) -> BTreeMap<String, ProviderConfig> {
        let mut all = self.providers.clone();
        for kind in [
            ProviderKind::Openai,
            ProviderKind::Anthropic,
            ProviderKind::Ollama,
            ProviderKind::Mock,
        ] {
            all.entry(kind.as_str().to_owned())
                .or_insert_with(|| ProviderConfig::of(kind));
        }
        let embedder = self.embedding_api_url.as_ref().filter(|url| !url.trim().is_empty());
        if embedder.is_some() {
            let embedding = ProviderConfig::of(ProviderKind::Openai);
            all.entry(EMBEDDING_PROVIDER.to_owned()).or_insert(embedding);
        }
        let mut fill = |name: &str, url: &Option<String>, key: &Option<Secret<String>>| {
            if let Some(provider) = all.get_mut(name) {
                provider.base_url = provider
                    .base_url
                    .take()
                    .or_else(|| url.clone())
                    .filter(|url| !url.trim().is_empty());
                provider.api_key = provider
                    .api_key
                    .take()
                    .or_else(|| key.clone())
                    .filter(|key| !key.is_empty());
            }
        };
        fill("openai", &self.openai_base_url, &self.openai_api_key);
        fill("anthropic", &None, &self.anthropic_api_key);
        fill("ollama", &self.ollama_url, &None);
        fill(EMBEDDING_PROVIDER, &self.embedding_api_url, &self.openai_api_key);
        all
    }
}

/// `gpt-4` is itself, `gpt-4*` all that begin so.
pub(crate) fn matches_model(pattern: &str, model: &str) -> bool {
    pattern
        .strip_suffix('*')
        .map_or(pattern == model, |prefix| model.starts_with(prefix))
}

#[cfg(test)]
mod tests;
