//! The providers of this process, and which of them serves a model.

use std::collections::BTreeMap;

use mesh_api::inference::{CompleteRequest, ModelList, ModelView};
use mesh_types::Code;
use url::Url;

use crate::config::{Config, OPENAI_BASE_URL, ProviderConfig, ProviderKind, RouteRule, matches_model};
use crate::mock::Mock;
use mesh_models::OpenAi;
use mesh_models::{Answer, Chunks, Try, TryError};

/// Prefixes of well-known names; rules of the configuration go before them.
const BUILT_IN: &[(&str, &str)] = &[
    ("mock", "mock"),
    ("mock:*", "mock"),
    ("gpt-*", "openai"),
    ("chatgpt-*", "openai"),
    ("o1*", "openai"),
    ("o3*", "openai"),
    ("o4*", "openai"),
    ("claude-*", "anthropic"),
];

#[derive(Debug)]
pub(crate) enum Provider {
    OpenAi(OpenAi),
    Mock(Mock),
    /// Declared, and why it cannot be asked.
    Missing(&'static str),
}

impl Provider {
    /// Answers without a network.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Mock(_))
    }

    pub(crate) async fn attempt<C: Chunks>(&self, call: Try<'_>, chunks: &mut C) -> Result<Answer, TryError> {
        match self {
            Self::OpenAi(provider) => provider.attempt(call, chunks).await,
            Self::Mock(mock) => mock.attempt(call, chunks).await,
            Self::Missing(why) => Err(TryError::Connection((*why).to_owned())),
        }
    }
}

/// A model found: whom to ask, under which name.
#[derive(Debug)]
pub(crate) struct Route<'a> {
    pub(crate) provider_name: &'a str,
    pub(crate) provider: &'a Provider,
    pub(crate) model: String,
}

/// A model that cannot be asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoRoute {
    pub(crate) provider: String,
    pub(crate) code: Code,
    pub(crate) reason: String,
}

#[derive(Debug)]
pub(crate) struct Providers {
    by_name: BTreeMap<String, (ProviderConfig, Provider)>,
    rules: Vec<RouteRule>,
    default: Option<String>,
    ends_in_mock: bool,
}

impl Providers {
    pub(crate) fn new(config: &Config) -> Result<Self, crate::Error> {
        let mut by_name = BTreeMap::new();
        for (name, declared) in config.all_providers() {
            let provider = open(&declared, config)?;
            by_name.insert(name, (declared, provider));
        }
        let built_in = BUILT_IN.iter().map(|(model, provider)| RouteRule {
            model: (*model).to_owned(),
            provider: (*provider).to_owned(),
            as_model: None,
        });
        let rules = config.routes.iter().cloned().chain(built_in).collect();
        let remote = |(name, (_, provider)): (&String, &(ProviderConfig, Provider))| {
            matches!(provider, Provider::OpenAi(_)).then(|| name.clone())
        };
        let first_remote = ["openai", "ollama"]
            .iter()
            .filter_map(|name| by_name.get_key_value(*name))
            .chain(by_name.iter())
            .find_map(remote);
        let ends_in_mock = config.mock_when_unconfigured && first_remote.is_none();
        let default = config.default_provider.clone().or(first_remote);
        Ok(Self {
            by_name,
            rules,
            default,
            ends_in_mock,
        })
    }

    /// Whether the mock answers when a chain is at its end, because nothing else is configured.
    pub(crate) fn ends_in_mock(&self) -> bool {
        self.ends_in_mock
    }

    /// `<provider>/<model>` names its provider; else the first rule that matches; else the default one.
    pub(crate) fn route(&self, model: &str, request: &CompleteRequest) -> Result<Route<'_>, NoRoute> {
        let prefixed = model
            .split_once('/')
            .filter(|(name, rest)| self.by_name.contains_key(*name) && !rest.is_empty());
        let (name, known_as) = if let Some(rule) = self.rules.iter().find(|rule| matches_model(&rule.model, model)) {
            (rule.provider.as_str(), rule.as_model.as_deref().unwrap_or(model))
        } else if let Some((name, rest)) = prefixed {
            (name, rest)
        } else if let Some(default) = &self.default {
            (default.as_str(), model)
        } else {
            return Err(self.no_route(model));
        };
        let Some((provider_name, (_, provider))) = self.by_name.get_key_value(name) else {
            return Err(self.no_route(model));
        };
        match provider {
            Provider::Missing(why) => Err(NoRoute {
                provider: name.to_owned(),
                code: Code::ProviderNotConfigured,
                reason: format!("provider-not-configured: {why}"),
            }),
            Provider::Mock(mock) if let Err(why) = mock.script(known_as, request) => Err(NoRoute {
                provider: name.to_owned(),
                code: Code::ModelNotFound,
                reason: format!("model-not-found: {why}"),
            }),
            _ => Ok(Route {
                provider_name,
                provider,
                model: known_as.to_owned(),
            }),
        }
    }

    fn no_route(&self, model: &str) -> NoRoute {
        let model: String = model.chars().take(80).collect();
        NoRoute {
            provider: "none".to_owned(),
            code: Code::ModelNotFound,
            reason: format!("model-not-found: no provider serves `{model}`"),
        }
    }

    /// Names that can be asked for; a name that ends in `*` stands for all that begin so.
    pub(crate) fn list(&self) -> ModelList {
        let mut items: Vec<ModelView> = Vec::new();
        let mut add = |name: String, provider: &str, available: bool| {
            if !items.iter().any(|item| item.name == name) {
                items.push(ModelView {
                    name,
                    provider: provider.to_owned(),
                    available,
                });
            }
        };
        for (name, (declared, provider)) in &self.by_name {
            let available = !matches!(provider, Provider::Missing(_));
            for model in &declared.models {
                add(model.clone(), name, available);
            }
            if let Provider::Mock(mock) = provider {
                mock.models().for_each(|model| add(model, name, true));
            }
        }
        for rule in self.rules.iter().filter(|rule| !rule.model.starts_with("mock")) {
            let provider = self.by_name.get(&rule.provider);
            let available = provider.is_some_and(|(_, provider)| !matches!(provider, Provider::Missing(_)));
            add(rule.model.clone(), &rule.provider, available);
        }
        ModelList { items }
    }
}

fn open(declared: &ProviderConfig, config: &Config) -> Result<Provider, crate::Error> {
    let url = |text: &str| Url::parse(text).map_err(|error| crate::Error::Config(error.to_string()));
    let client =
        |base: &Url| OpenAi::new(base, declared.api_key.clone(), config.limits.waits()).map_err(crate::Error::Client);
    match (declared.kind, &declared.base_url) {
        (ProviderKind::Mock, _) => Ok(Provider::Mock(Mock::new(config))),
        (ProviderKind::Openai, Some(base)) => Ok(Provider::OpenAi(client(&url(base)?)?)),
        (ProviderKind::Openai, None) if declared.api_key.is_some() => {
            Ok(Provider::OpenAi(client(&url(OPENAI_BASE_URL)?)?))
        }
        (ProviderKind::Openai, None) => Ok(Provider::Missing("it has neither an API key nor a base URL")),
        (ProviderKind::Ollama, Some(base)) => {
            let mut base = url(base)?;
            let path = base.path().trim_end_matches('/').to_owned();
            if !path.ends_with("/v1") {
                base.set_path(&format!("{path}/v1"));
            }
            Ok(Provider::OpenAi(client(&base)?))
        }
        (ProviderKind::Ollama, None) => Ok(Provider::Missing("it has no URL")),
        (ProviderKind::Anthropic, _) => Ok(Provider::Missing("this version cannot speak to it yet")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn providers(config: Config) -> Providers {
        Providers::new(&config).unwrap()
    }

    fn named(config: &Config, model: &str) -> (String, String) {
        let providers = providers(config.clone());
        let request = serde_json::from_value(serde_json::json!({"model": model, "messages": []})).unwrap();
        match providers.route(model, &request) {
            Ok(route) => (route.provider_name.to_owned(), route.model),
            Err(no) => (no.provider, no.reason),
        }
    }

    #[test]
    fn without_a_provider_only_the_mock_is_there() {
        let config = Config::default();
        assert_eq!(named(&config, "mock"), ("mock".into(), "mock".into()));
        assert_eq!(named(&config, "mock:script:flaky").0, "mock");
        assert!(named(&config, "mock:script:nothing").1.starts_with("model-not-found"));
        assert!(named(&config, "gpt-4").1.starts_with("provider-not-configured"));
        assert!(named(&config, "claude-sonnet").1.starts_with("provider-not-configured"));
        assert!(named(&config, "llama3").1.starts_with("model-not-found"));
        assert!(providers(config).ends_in_mock());
    }

    #[test]
    fn a_base_url_alone_configures_a_provider() {
        let config = Config {
            openai_base_url: Some("http://127.0.0.1:1/v1/".into()),
            ..Config::default()
        };
        assert_eq!(named(&config, "gpt-4").0, "openai");
        assert_eq!(named(&config, "qwen"), ("openai".into(), "qwen".into()));
        assert!(!providers(config).ends_in_mock());
    }

    #[test]
    fn rules_of_the_configuration_go_first() {
        let rule = RouteRule {
            model: "claude-*".into(),
            provider: "ollama".into(),
            as_model: Some("llama3".into()),
        };
        let config = Config {
            ollama_url: Some("http://127.0.0.1:1".into()),
            routes: vec![rule],
            ..Config::default()
        };
        assert_eq!(named(&config, "claude-sonnet"), ("ollama".into(), "llama3".into()));
        assert_eq!(named(&config, "ollama/phi"), ("ollama".into(), "phi".into()));
        assert_eq!(named(&config, "phi/3"), ("ollama".into(), "phi/3".into()));
    }

    #[test]
    fn the_list_says_what_is_available() {
        let list = providers(Config::default()).list();
        let find = |name: &str| list.items.iter().find(|item| item.name == name).unwrap().available;
        assert!(find("mock") && find("mock:script:stream"));
        assert!(!find("gpt-*") && !find("claude-*"));
    }
}
