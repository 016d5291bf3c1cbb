//! Latencies of one level.

use std::time::Duration;

use hdrhistogram::Histogram;

/// A minute in microseconds: every call is over or given up by then.
const MAX_US: u64 = 60_000_000;

/// Latencies to three digits.
#[derive(Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, MAX_US, 3).expect("these bounds are valid"))
    }

    pub(super) fn record(&mut self, latency: Duration) {
        self.0
            .saturating_record(u64::try_from(latency.as_micros()).unwrap_or(MAX_US));
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    pub(super) fn quantile_ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1_000.0
    }

    pub(super) fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_value_that_so_many_stay_below() {
        let mut latencies = Latencies::new();
        (1..=100).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        latencies.record(Duration::from_secs(3_600));
        let median = latencies.quantile_ms(0.5);
        assert!((median - 51.0).abs() < 0.2, "{median}");
        assert_eq!(latencies.count(), 101);
        assert!((latencies.max_ms() - 60_000.0).abs() < 100.0);
    }
}
