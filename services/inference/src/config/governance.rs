//! Configuration of what keeps providers and budgets whole: rates, the breaker, the cache of answers.

use serde::{Deserialize, Serialize};

/// How much at a time; what is not said has no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Calls at once.
    pub concurrency: Option<u32>,
    pub requests_per_minute: Option<u32>,
    /// Input and output together; guessed before a call, corrected after it.
    pub tokens_per_minute: Option<u32>,
}

impl Rates {
    pub(crate) fn validate(&self, of: &str) -> Result<(), String> {
        for (name, value) in [
            ("concurrency", self.concurrency),
            ("requests_per_minute", self.requests_per_minute),
            ("tokens_per_minute", self.tokens_per_minute),
        ] {
            if value == Some(0) {
                return Err(format!("{of}.{name}: at least 1; leave it out for no bound"));
            }
        }
        Ok(())
    }
}

/// When a provider that fails is left alone, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerRules {
    /// Transient failures one after the other that open the circuit.
    pub failures: u32,
    /// So many of a hundred tries within `window_ms`, once there are `tries_min`, open it too.
    pub failures_percent: u32,
    pub tries_min: u32,
    pub window_ms: u64,
    /// First rest of an open circuit; doubles each time its probe fails, up to `open_max_ms`.
    pub open_ms: u64,
    pub open_max_ms: u64,
    /// Longest rest that a provider may ask for by `Retry-After`.
    pub rest_max_ms: u64,
}

impl Default for BreakerRules {
    fn default() -> Self {
        Self {
            failures: 8,
            failures_percent: 50,
            tries_min: 20,
            window_ms: 30_000,
            open_ms: 5_000,
            open_max_ms: 120_000,
            rest_max_ms: 3_600_000,
        }
    }
}

impl BreakerRules {
    pub(crate) fn validate(&self) -> Result<(), String> {
        if self.failures == 0 || self.tries_min == 0 {
            return Err("breaker: failures and tries_min are at least 1".to_owned());
        }
        if !(1..=100).contains(&self.failures_percent) {
            return Err("breaker.failures_percent: 1 to 100".to_owned());
        }
        if self.open_ms == 0 || self.open_ms > self.open_max_ms {
            return Err("breaker: open_ms is at least 1 and at most open_max_ms".to_owned());
        }
        Ok(())
    }
}

/// Bounds of the answers that are kept for the same question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheRules {
    /// None are kept when it is 0.
    pub entries: usize,
    /// Of all answers together.
    pub bytes: usize,
    pub ttl_seconds: u64,
}

impl Default for CacheRules {
    fn default() -> Self {
        Self {
            entries: 0,
            bytes: 64 * 1024 * 1024,
            ttl_seconds: 3_600,
        }
    }
}
