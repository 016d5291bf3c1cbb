//! Configuration of `inference`: providers, which model goes where, prices, scripts of the mock, bounds.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_api::Endpoint;
use mesh_api::inference::Complete;
use mesh_runtime::{Secret, Validate};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::mock::Script;

/// Where `openai` points when nothing else is said.
pub const OPENAI_BASE_URL: &str = "https://api.openai.com/v1";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// By name. `openai`, `anthropic`, `ollama` and `mock` are always there; what is said here goes first.
    pub providers: BTreeMap<String, ProviderConfig>,
    /// Which provider serves a model: the first rule that matches. Built-in rules follow.
    pub routes: Vec<RouteRule>,
    /// Serves models that no rule names; else the first configured provider does.
    pub default_provider: Option<String>,
    /// US dollars for a million tokens, by model; `gpt-4*` stands for all that begin so, the longest name wins.
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
    /// `ANTHROPIC_API_KEY`: kept for the provider `anthropic`, which comes later.
    pub anthropic_api_key: Option<Secret<String>>,
    /// `OLLAMA_URL`: where provider `ollama` listens.
    pub ollama_url: Option<String>,
    pub limits: Limits,
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
            limits: Limits::default(),
            concurrency: 512,
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// Any server that speaks OpenAI's chat completions.
    Openai,
    Anthropic,
    /// Ollama, by the same wire at `/v1`.
    Ollama,
    Mock,
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
    pub output: f64,
}

/// Bounds of every call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub connect_timeout_ms: u64,
    /// From the start of a try to the first byte of its answer.
    pub first_byte_timeout_ms: u64,
    /// Between two pieces of an answer.
    pub idle_timeout_ms: u64,
    /// A whole call with all its tries at remote models.
    pub call_timeout_ms: u64,
    /// Further tries at one model after a transient error.
    pub retries_max: u32,
    /// Before the first further try; doubles.
    pub retry_delay_ms: u64,
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
            first_byte_timeout_ms: 30_000,
            idle_timeout_ms: 30_000,
            call_timeout_ms: CALL_TIMEOUT_MS,
            retries_max: 1,
            retry_delay_ms: 300,
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
            let good = |dollars: f64| dollars.is_finite() && dollars >= 0.0;
            if !good(price.input) || !good(price.output) {
                return Err(format!("prices.{model}: not a price"));
            }
        }
        Ok(())
    }
}

impl Config {
    /// Everything declared, with the four that are always there and what the environment says of them.
    pub fn all_providers(&self) -> BTreeMap<String, ProviderConfig> {
        let plain = |kind| ProviderConfig {
            kind,
            base_url: None,
            api_key: None,
            models: Vec::new(),
        };
        let mut all = self.providers.clone();
        for kind in [
            ProviderKind::Openai,
            ProviderKind::Anthropic,
            ProviderKind::Ollama,
            ProviderKind::Mock,
        ] {
            all.entry(kind.as_str().to_owned()).or_insert_with(|| plain(kind));
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
        all
    }

    /// US dollars of one call; 0 when the model has no price.
    pub fn cost_usd(&self, model: &str, input_tokens: u64, output_tokens: u64) -> f64 {
        let matching = self.prices.iter().filter(|(name, _)| matches_model(name, model));
        matching.max_by_key(|(name, _)| name.len()).map_or(0.0, |(_, price)| {
            (price.input * input_tokens as f64 + price.output * output_tokens as f64) / 1e6
        })
    }
}

/// `gpt-4` is itself, `gpt-4*` all that begin so.
pub(crate) fn matches_model(pattern: &str, model: &str) -> bool {
    pattern
        .strip_suffix('*')
        .map_or(pattern == model, |prefix| model.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_price_wins_and_no_price_is_free() {
        let price = |input, output| Price { input, output };
        let prices = [("gpt-4*", price(1.0, 2.0)), ("gpt-4o-mini", price(10.0, 20.0))];
        let config = Config {
            prices: prices
                .into_iter()
                .map(|(name, price)| (name.to_owned(), price))
                .collect(),
            ..Config::default()
        };
        assert!((config.cost_usd("gpt-4o", 1_000_000, 500_000) - 2.0).abs() < 1e-9);
        assert!((config.cost_usd("gpt-4o-mini", 1_000_000, 0) - 10.0).abs() < 1e-9);
        assert!(config.cost_usd("claude-sonnet", 1_000_000, 0).abs() < 1e-9);
    }

    #[test]
    fn what_cannot_work_is_refused_before_a_socket_opens() {
        let bad_url = Config {
            openai_base_url: Some("file:///etc".to_owned()),
            ..Config::default()
        };
        assert!(bad_url.validate().unwrap_err().contains("openai"));
        let bad_default = Config {
            default_provider: Some("nobody".to_owned()),
            ..Config::default()
        };
        assert!(bad_default.validate().unwrap_err().contains("nobody"));
        assert!(Config::default().validate().is_ok());
        let empty = Config {
            ollama_url: Some(" ".to_owned()),
            ..Config::default()
        };
        assert!(empty.validate().is_ok(), "an empty variable is as good as none");
        let mute = Config {
            mock_scripts: BTreeMap::from([("mute".to_owned(), Script::default())]),
            ..Config::default()
        };
        assert!(mute.validate().unwrap_err().contains("mute"));
    }

    #[test]
    fn file_and_environment_say_everything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mesh.yaml");
        let text = "
inference:
  routes: [{model: 'qwen*', provider: local}]
  prices: {'gpt-4*': {input: 2.5, output: 10}}
  mock_scripts:
    two: [{text: a b, per_token_ms: 3, fail: {status: 429, times: 1}}, {tool_calls: [{name: t, arguments: {x: 1}}]}]
";
        std::fs::write(&path, text).unwrap();
        let env = [
            ("OPENAI_API_KEY", "sk-secret"),
            ("OLLAMA_URL", ""),
            ("MESH_INFERENCE__PROVIDERS__LOCAL__KIND", "openai"),
            ("MESH_INFERENCE__PROVIDERS__LOCAL__BASE_URL", "http://127.0.0.1:1/v1"),
            ("MESH_INFERENCE__LIMITS__RETRIES_MAX", "3"),
        ];
        let env = env
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let config: Config = mesh_runtime::config::load("inference", Some(&path), &env).unwrap();
        assert_eq!(config.limits.retries_max, 3);
        let turns = &config.mock_scripts["two"].turns;
        assert_eq!((turns.len(), turns[0].per_token_ms), (2, 3));
        assert_eq!(turns[1].tool_calls[0].arguments["x"], 1);
        assert!((config.prices["gpt-4*"].output - 10.0).abs() < 1e-9);
        let all = config.all_providers();
        assert_eq!(all["local"].kind, ProviderKind::Openai);
        assert!(all["openai"].api_key.is_some() && all["ollama"].base_url.is_none());
        assert!(!format!("{config:?}").contains("sk-secret"));
        assert!(!serde_json::to_string(&config).unwrap().contains("sk-secret"));
    }
}
