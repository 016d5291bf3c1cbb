//! The newest recorded trace of each bucket of a histogram, so that a slow bar of a graph leads to a trace that made it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_trace::TraceContext;
use mesh_types::{Clock, SystemClock, Timestamp};

/// Series that are remembered; past it, none is added. Labels are few, so this is never reached but by a mistake.
const SERIES_MAX: usize = 8_192;

/// One observation that a recorded trace made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Exemplar {
    pub(super) trace_id: u128,
    pub(super) value: f64,
    pub(super) at: Timestamp,
}

/// Of all histograms of a process. Touched only by work whose trace is recorded, which is little.
#[derive(Debug, Clone, Default)]
pub(super) struct Exemplars {
    /// By name and labels as [`key`] writes them; as many as there are buckets, `+Inf` last.
    series: Arc<Mutex<HashMap<String, Vec<Option<Exemplar>>>>>,
}

impl Exemplars {
    /// `key` is that of the series, `boundaries` the upper ends of its buckets.
    pub(super) fn keep(&self, key: String, boundaries: &[f64], value: f64, trace: TraceContext) {
        let bucket = boundaries.partition_point(|boundary| *boundary < value);
        let exemplar = Exemplar {
            trace_id: trace.trace_id(),
            value,
            at: SystemClock::default().now(),
        };
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if series.len() >= SERIES_MAX && !series.contains_key(&key) {
            return;
        }
        let buckets = series.entry(key).or_insert_with(|| vec![None; boundaries.len() + 1]);
        if let Some(place) = buckets.get_mut(bucket) {
            *place = Some(exemplar);
        }
    }

    /// One a bucket; none where nothing was kept.
    pub(super) fn of(&self, key: &str) -> Vec<Option<Exemplar>> {
        let series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        series.get(key).cloned().unwrap_or_default()
    }
}

/// `name{a="1",b="2"}` with the labels in the order of their names, as Prometheus shows both.
pub(super) fn key<'a>(name: &str, labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut labels: Vec<(String, &str)> = labels.map(|(name, value)| (name.replace('.', "_"), value)).collect();
    labels.sort_unstable();
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{name}{{{}}}", labels.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_keeps_its_newest() {
        let exemplars = Exemplars::default();
        let trace = |id| TraceContext::new(id, 1, true);
        let series = || key("a_seconds", [("b.c", "2"), ("a", "1")].into_iter());
        assert_eq!(series(), r#"a_seconds{a="1",b_c="2"}"#);
        for (value, id) in [(0.1, 1), (0.1, 2), (0.5, 3), (0.500_1, 4), (9.0, 5)] {
            exemplars.keep(series(), &[0.1, 0.5, 1.0], value, trace(id));
        }
        let ids: Vec<_> = exemplars
            .of(&series())
            .iter()
            .map(|kept| kept.map(|kept| kept.trace_id))
            .collect();
        assert_eq!(ids, [Some(2), Some(3), Some(4), Some(5)]);
        assert!(exemplars.of("a_seconds{}").is_empty());
    }
}
