//! What a call costs: the configuration's prices, else the list of well-known models below. A model of neither is free,
//! and is named once in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use mesh_models::Tokens;

use crate::config::{Config, Price, ProviderKind, matches_model};

/// US dollars for a million tokens as their makers listed them at the end of 2025: input, input read from the cache,
/// input written into the cache, output; `-1` where there is no price of its own. Prices change: the configuration's go
/// first, and the list says what a call would roughly cost until somebody sets them.
const BUILT_IN: &[(&str, f64, f64, f64, f64)] = &[
    ("gpt-3.5-turbo*", 0.5, -1.0, -1.0, 1.5),
    ("gpt-4", 30.0, -1.0, -1.0, 60.0),
    ("gpt-4-turbo*", 10.0, -1.0, -1.0, 30.0),
    ("gpt-4o*", 2.5, 1.25, -1.0, 10.0),
    ("gpt-4o-mini*", 0.15, 0.075, -1.0, 0.6),
    ("gpt-4.1*", 2.0, 0.5, -1.0, 8.0),
    ("gpt-4.1-mini*", 0.4, 0.1, -1.0, 1.6),
    ("gpt-4.1-nano*", 0.1, 0.025, -1.0, 0.4),
    ("gpt-5*", 1.25, 0.125, -1.0, 10.0),
    ("gpt-5-pro*", 15.0, -1.0, -1.0, 120.0),
    ("gpt-5-mini*", 0.25, 0.025, -1.0, 2.0),
    ("gpt-5-nano*", 0.05, 0.005, -1.0, 0.4),
    ("o1", 15.0, 7.5, -1.0, 60.0),
    ("o3", 2.0, 0.5, -1.0, 8.0),
    ("o3-mini*", 1.1, 0.55, -1.0, 4.4),
    ("o4-mini*", 1.1, 0.275, -1.0, 4.4),
    ("claude-3-haiku*", 0.25, 0.03, 0.3, 1.25),
    ("claude-3-5-haiku*", 0.8, 0.08, 1.0, 4.0),
    ("claude-3-5-sonnet*", 3.0, 0.3, 3.75, 15.0),
    ("claude-3-7-sonnet*", 3.0, 0.3, 3.75, 15.0),
    ("claude-haiku-4-5*", 1.0, 0.1, 1.25, 5.0),
    ("claude-sonnet-4*", 3.0, 0.3, 3.75, 15.0),
    ("claude-opus-4*", 15.0, 1.5, 18.75, 75.0),
    ("claude-opus-4-5*", 5.0, 0.5, 6.25, 25.0),
    ("deepseek-chat", 0.28, 0.028, -1.0, 0.42),
    ("deepseek-reasoner", 0.28, 0.028, -1.0, 0.42),
    ("text-embedding-3-small", 0.02, -1.0, -1.0, 0.0),
    ("text-embedding-3-large", 0.13, -1.0, -1.0, 0.0),
    ("text-embedding-ada-002", 0.1, -1.0, -1.0, 0.0),
];

/// Models named in the log at most; more are free in silence.
const NAMED_MAX: usize = 1_000;

#[derive(Debug)]
pub(crate) struct Prices {
    own: BTreeMap<String, Price>,
    /// Providers whose models cost nothing by their nature.
    free: BTreeSet<String>,
    named: Mutex<BTreeSet<String>>,
}

impl Prices {
    pub(crate) fn new(config: &Config) -> Self {
        let is_free = |kind| matches!(kind, ProviderKind::Ollama | ProviderKind::Mock);
        let providers = config.all_providers();
        let free = providers.into_iter().filter(|(_, provider)| is_free(provider.kind));
        Self {
            own: config.prices.clone(),
            free: free.map(|(name, _)| name).collect(),
            named: Mutex::default(),
        }
    }

    /// The longest name wins, among the configuration's prices first. `None`: nobody knows.
    pub(crate) fn of(&self, provider: &str, model: &str) -> Option<Price> {
        let own = self.own.iter().filter(|(name, _)| matches_model(name, model));
        if let Some((_, price)) = own.max_by_key(|(name, _)| name.len()) {
            return Some(*price);
        }
        if self.free.contains(provider) {
            return Some(Price::default());
        }
        // OpenRouter and others put the maker before the name.
        let bare = model.rsplit('/').next().unwrap_or(model);
        let known = BUILT_IN.iter().filter(|(name, ..)| matches_model(name, bare));
        let (_, input, cached, written, output) = known.max_by_key(|(name, ..)| name.len())?;
        let own = |dollars: f64| (dollars >= 0.0).then_some(dollars);
        Some(Price {
            input: *input,
            cached_input: own(*cached),
            cache_write: own(*written),
            output: *output,
        })
    }

    /// US dollars of one call. 0 for a model without a price: see [`Prices::is_news`].
    pub(crate) fn cost_usd(&self, provider: &str, model: &str, tokens: &Tokens) -> f64 {
        self.of(provider, model).map_or(0.0, |price| price.cost_usd(tokens))
    }

    /// Whether this model has no price, and is to be named now since it was not before.
    pub(crate) fn is_news(&self, provider: &str, model: &str) -> Unpriced {
        if self.of(provider, model).is_some() {
            return Unpriced::No;
        }
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.len() < NAMED_MAX && named.insert(format!("{provider}/{model}")) {
            Unpriced::FirstTime
        } else {
            Unpriced::Again
        }
    }
}

/// Whether a model lacks a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unpriced {
    No,
    FirstTime,
    Again,
}

impl Price {
    /// US dollars for these tokens.
    pub(crate) fn cost_usd(&self, tokens: &Tokens) -> f64 {
        // A provider that counts more cached tokens than tokens is not paid for the difference twice.
        let cached = tokens.cached.min(tokens.input);
        let written = tokens.cache_written.min(tokens.input - cached);
        let plain = tokens.input - cached - written;
        let dollars = self.input * plain as f64
            + self.cached_input.unwrap_or(self.input) * cached as f64
            + self.cache_write.unwrap_or(self.input) * written as f64
            + self.output * tokens.output as f64;
        dollars / 1e6
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(input: u64, cached: u64, cache_written: u64, output: u64) -> Tokens {
        Tokens {
            input,
            output,
            cached,
            cache_written,
        }
    }

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    fn price(input: f64, output: f64) -> Price {
        Price {
            input,
            output,
            ..Price::default()
        }
    }

    #[test]
    fn the_longest_price_wins_and_the_configuration_goes_first() {
        let own = [("gpt-4*", price(1.0, 2.0)), ("gpt-4o-special", price(10.0, 20.0))];
        let prices = Prices::new(&Config {
            prices: own.into_iter().map(|(name, price)| (name.to_owned(), price)).collect(),
            ..Config::default()
        });
        let million = tokens(1_000_000, 0, 0, 500_000);
        assert!(close(prices.cost_usd("openai", "gpt-4o", &million), 2.0));
        assert!(close(prices.cost_usd("openai", "gpt-4o-special", &million), 20.0));
        assert!(close(
            prices.cost_usd("openai", "gpt-5-mini-2025-08-07", &million),
            1.25
        ));
        assert!(close(prices.cost_usd("router", "openai/gpt-5-mini", &million), 1.25));
    }

    #[test]
    fn cached_tokens_have_their_own_price() {
        let prices = Prices::new(&Config::default());
        let cost = prices.cost_usd(
            "anthropic",
            "claude-sonnet-4-5",
            &tokens(1_000_000, 600_000, 100_000, 100_000),
        );
        assert!(close(cost, 0.3 * 3.0 + 0.6 * 0.3 + 0.1 * 3.75 + 0.1 * 15.0), "{cost}");
    }

    #[test]
    fn a_model_without_a_price_is_free_and_named_once() {
        let prices = Prices::new(&Config::default());
        assert!(close(
            prices.cost_usd("openai", "house-model", &tokens(9, 0, 0, 9)),
            0.0
        ));
        assert_eq!(prices.is_news("openai", "house-model"), Unpriced::FirstTime);
        assert_eq!(prices.is_news("openai", "house-model"), Unpriced::Again);
        assert_eq!(prices.is_news("openai", "gpt-4o"), Unpriced::No);
        assert_eq!(prices.is_news("ollama", "llama3"), Unpriced::No, "it runs at home");
    }

    proptest! {
        #[test]
        fn no_count_costs_less_than_nothing_or_more_than_all_at_the_highest_price(
            input in 0..1_000_000_u64, cached in 0..2_000_000_u64, written in 0..2_000_000_u64, output in 0..1_000_u64,
        ) {
            let price = Price { input: 3.0, cached_input: Some(0.3), cache_write: Some(3.75), output: 15.0 };
            let cost = price.cost_usd(&tokens(input, cached, written, output));
            prop_assert!(cost >= 0.0);
            prop_assert!(cost <= (3.75 * input as f64 + 15.0 * output as f64) / 1e6 + 1e-9);
        }
    }
}
