//! The list of models: what providers say they have, asked at most once a minute, and what the configuration names.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use mesh_api::inference::{ModelList, ModelView};
use mesh_models::TryError;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{BUILT_IN, MOCK, Providers, Purpose};

/// A provider that takes longer to say what it has is listed by the configured names.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long what a provider said is good.
const FRESH: Duration = Duration::from_secs(60);
/// How long a provider that did not answer is not asked again.
const FRESH_FAILURE: Duration = Duration::from_secs(5);

/// What providers said last.
#[derive(Debug, Default)]
pub(super) struct Listing(Mutex<BTreeMap<String, Said>>);

#[derive(Debug, Clone)]
struct Said {
    /// `None`: it did not answer.
    models: Option<Vec<String>>,
    until: Instant,
}

impl Providers {
    /// Names that can be asked for, each once; a name that ends in `*` stands for all that begin so. A provider that
    /// `rests` is not available, whatever it said.
    pub(crate) async fn list(&self, rests: impl Fn(&str) -> bool) -> ModelList {
        let said = self.said().await;
        let is_available = |provider: &str| said.get(provider).is_some_and(Option::is_some) && !rests(provider);
        let mut items: Vec<ModelView> = Vec::new();
        let mut add = |name: String, provider: &str| {
            if !items.iter().any(|item| item.name == name) {
                items.push(ModelView {
                    available: is_available(provider),
                    provider: provider.to_owned(),
                    name,
                });
            }
        };
        for (provider, (declared, _)) in &self.by_name {
            let known = said.get(provider).and_then(Option::as_ref);
            for model in declared.models.iter().chain(known.into_iter().flatten()) {
                add(self.public_name(provider, model), provider);
            }
        }
        for rule in &self.rules {
            add(rule.model.clone(), &rule.provider);
        }
        // Who says by name what it has needs no pattern for it.
        for (pattern, provider) in BUILT_IN.iter().filter(|(_, provider)| *provider != MOCK) {
            if !said.get(*provider).is_some_and(Option::is_some) {
                add((*pattern).to_owned(), provider);
            }
        }
        ModelList { items }
    }

    /// The name under which this very provider is asked.
    fn public_name(&self, provider: &str, model: &str) -> String {
        let leads_here = |purpose| self.find(model, purpose) == Some((provider, model));
        if leads_here(Purpose::Chat) || leads_here(Purpose::Vectors) {
            model.to_owned()
        } else {
            format!("{provider}/{model}")
        }
    }

    /// Asks those whose answer is too old, all at once. Who comes meanwhile waits for the same answers.
    async fn said(&self) -> BTreeMap<String, Option<Vec<String>>> {
        let mut known = self.listing.0.lock().await;
        let now = Instant::now();
        let is_old = |name: &&String| known.get(*name).is_none_or(|said| said.until <= now);
        let asked: Vec<&String> = self.by_name.keys().filter(is_old).collect();
        let answers = join_all(asked.into_iter().map(|name| self.ask(name))).await;
        known.extend(answers);
        known
            .iter()
            .map(|(name, said)| (name.clone(), said.models.clone()))
            .collect()
    }

    async fn ask(&self, name: &str) -> (String, Said) {
        let (_, provider) = &self.by_name[name];
        // All of it: who sends a byte now and then would keep everybody waiting.
        let asked = tokio::time::timeout(PATIENCE, provider.models(PATIENCE)).await;
        let models = match asked.unwrap_or(Err(TryError::Timeout("the list of models did not come in time"))) {
            Ok(models) => Some(models),
            Err(error) => {
                if !provider.is_missing() {
                    tracing::debug!(provider = name, %error, "a provider does not list its models");
                }
                None
            }
        };
        let fresh = if models.is_some() { FRESH } else { FRESH_FAILURE };
        let until = Instant::now() + fresh;
        (name.to_owned(), Said { models, until })
    }
}
