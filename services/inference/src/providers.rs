//! The providers of this process, and which of them serves a model.

mod listing;

use std::collections::BTreeMap;

use mesh_api::inference::CompleteRequest;
use mesh_types::Code;

use crate::config::{Config, EMBEDDING_PROVIDER, ProviderConfig, RouteRule, matches_model};
use crate::mock;
use crate::provider::Provider;
use listing::Listing;

/// Prefixes of well-known names; rules of the configuration go before them.
const BUILT_IN: &[(&str, &str)] = &[
    ("mock", MOCK),
    ("mock:*", MOCK),
    ("gpt-*", "openai"),
    ("chatgpt-*", "openai"),
    ("o1*", "openai"),
    ("o3*", "openai"),
    ("o4*", "openai"),
    ("text-embedding-*", "openai"),
    ("claude-*", "anthropic"),
];
const MOCK: &str = "mock";

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

/// What a model is asked for: the embedder of the configuration serves vectors only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Chat,
    Vectors,
}

#[derive(Debug)]
pub(crate) struct Providers {
    by_name: BTreeMap<String, (ProviderConfig, Provider)>,
    /// Of the configuration.
    rules: Vec<RouteRule>,
    default: Option<String>,
    ends_in_mock: bool,
    listing: Listing,
}

impl Providers {
    pub(crate) fn new(config: &Config) -> Result<Self, crate::Error> {
        let mut by_name = BTreeMap::new();
        for (name, declared) in config.all_providers() {
            let provider = Provider::open(&declared, config)?;
            by_name.insert(name, (declared, provider));
        }
        // Whoever offers models of any name first, Anthropic with its own ones last.
        let names = ["openai", "ollama"].into_iter().map(str::to_owned);
        let others = by_name
            .keys()
            .filter(|name| !matches!(name.as_str(), "anthropic" | EMBEDDING_PROVIDER));
        let mut names = names.chain(others.cloned()).chain(["anthropic".to_owned()]);
        let is_remote = |name: &String| {
            by_name
                .get(name)
                .is_some_and(|(_, provider)| !provider.is_local() && !provider.is_missing())
        };
        let first_remote = names.find(is_remote);
        Ok(Self {
            ends_in_mock: config.mock_when_unconfigured && first_remote.is_none(),
            default: config.default_provider.clone().or(first_remote),
            rules: config.routes.clone(),
            listing: Listing::default(),
            by_name,
        })
    }

    /// Whether the mock answers when a chain is at its end, because nothing else is configured.
    pub(crate) fn ends_in_mock(&self) -> bool {
        self.ends_in_mock
    }

    /// Whom to ask for a completion: the first rule that matches; else the provider that `<provider>/<model>` names;
    /// else the default one.
    pub(crate) fn route(&self, model: &str, request: &CompleteRequest) -> Result<Route<'_>, NoRoute> {
        let route = self.ready(model, Purpose::Chat)?;
        match route.provider {
            Provider::Mock(mock) if let Err(why) = mock.script(&route.model, request) => Err(NoRoute {
                provider: route.provider_name.to_owned(),
                code: Code::ModelNotFound,
                reason: format!("model-not-found: {why}"),
            }),
            _ => Ok(route),
        }
    }

    /// Whom to ask for vectors: as for a completion, with the configured embedder before names that are only known.
    pub(crate) fn route_vectors(&self, model: &str) -> Result<Route<'_>, NoRoute> {
        let route = self.ready(model, Purpose::Vectors)?;
        if route.provider.is_local() && route.model != mock::EMBED {
            return Err(NoRoute {
                provider: route.provider_name.to_owned(),
                code: Code::ModelNotFound,
                reason: format!("model-not-found: the mock's model for vectors is `{}`", mock::EMBED),
            });
        }
        Ok(route)
    }

    fn ready(&self, model: &str, purpose: Purpose) -> Result<Route<'_>, NoRoute> {
        let (name, known_as) = self.find(model, purpose).ok_or_else(|| no_route(model))?;
        let Some((provider_name, (_, provider))) = self.by_name.get_key_value(name) else {
            return Err(no_route(model));
        };
        if let Provider::Missing(why) = provider {
            return Err(NoRoute {
                provider: name.to_owned(),
                code: Code::ProviderNotConfigured,
                reason: format!("provider-not-configured: {why}"),
            });
        }
        Ok(Route {
            provider_name,
            provider,
            model: known_as.to_owned(),
        })
    }

    /// The provider's name, and the model's name there.
    fn find<'a>(&'a self, model: &'a str, purpose: Purpose) -> Option<(&'a str, &'a str)> {
        let configured = self.rules.iter().find(|rule| matches_model(&rule.model, model));
        let configured = configured.map(|rule| (rule.provider.as_str(), rule.as_model.as_deref().unwrap_or(model)));
        let known = BUILT_IN.iter().find(|(pattern, _)| matches_model(pattern, model));
        let known = known.map(|(_, provider)| (*provider, model));
        let prefixed = model
            .split_once('/')
            .filter(|(name, rest)| self.by_name.contains_key(*name) && !rest.is_empty());
        let default = self.default.as_deref().map(|name| (name, model));
        match purpose {
            Purpose::Chat => configured.or(known).or(prefixed).or(default),
            Purpose::Vectors => {
                let embedder = self
                    .by_name
                    .get_key_value(EMBEDDING_PROVIDER)
                    .map(|(name, _)| (name.as_str(), model));
                let mock = known.filter(|(name, _)| *name == MOCK);
                configured.or(mock).or(prefixed).or(embedder).or(known).or(default)
            }
        }
    }
}

fn no_route(model: &str) -> NoRoute {
    let model: String = model.chars().take(80).collect();
    NoRoute {
        provider: "none".to_owned(),
        code: Code::ModelNotFound,
        reason: format!("model-not-found: no provider serves `{model}`"),
    }
}

#[cfg(test)]
mod tests;
