//! Tokens that models made for this node's agents, as a rate over one heartbeat's interval.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Load {
    tokens: AtomicU64,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    /// On the monotonic clock.
    began: Duration,
    per_second: f64,
}

impl Load {
    /// A model has answered with so many.
    pub(crate) fn add_tokens(&self, tokens: u64) {
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
    }

    /// Over the last whole interval: a heartbeat between two of them says the same once more.
    pub(crate) fn per_second(&self, now: Duration, interval: Duration) -> f64 {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_sub(window.began);
        // Timers are late by a little, never early.
        if passed >= interval.mul_f64(0.9) {
            let tokens = self.tokens.swap(0, Ordering::Relaxed);
            window.per_second = tokens as f64 / passed.as_secs_f64();
            window.began = now;
        }
        window.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_a_whole_interval() {
        let (at, interval) = (Duration::from_secs, Duration::from_secs(20));
        let load = Load::default();
        load.add_tokens(30);
        load.add_tokens(10);
        assert_eq!(load.per_second(at(1), interval), 0.0);
        assert_eq!(load.per_second(at(20), interval), 2.0);
        load.add_tokens(100);
        assert_eq!(load.per_second(at(21), interval), 2.0);
        assert_eq!(load.per_second(at(40), interval), 5.0);
        assert_eq!(load.per_second(at(60), interval), 0.0);
    }
}
