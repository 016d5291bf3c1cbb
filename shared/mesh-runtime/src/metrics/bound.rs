//! Instruments for hot roads, whose labels are fixed beforehand: recording allocates nothing.

use std::sync::Arc;
use std::time::Duration;

use mesh_trace::TraceContext;
use opentelemetry::KeyValue;

use super::{Counter, Histogram, Labels, with};

/// A counter of one label set.
#[derive(Debug, Clone)]
pub struct BoundCounter {
    inner: opentelemetry::metrics::Counter<u64>,
    attributes: Arc<[KeyValue]>,
}

impl Counter {
    /// The counter of these labels; it is shown as 0 from now on.
    pub fn bound(&self, labels: Labels<'_>) -> BoundCounter {
        let bound = BoundCounter {
            inner: self.inner.clone(),
            attributes: with(&self.service, labels).into(),
        };
        // A rate needs a value before the first event.
        bound.add(0);
        bound
    }
}

impl BoundCounter {
    pub fn add(&self, count: u64) {
        self.inner.add(count, &self.attributes);
    }
}

/// A histogram of one label set.
#[derive(Debug, Clone)]
pub struct BoundHistogram {
    histogram: Histogram,
    attributes: Arc<[KeyValue]>,
    labels: Arc<[(&'static str, String)]>,
}

impl Histogram {
    pub fn bound(&self, labels: Labels<'_>) -> BoundHistogram {
        BoundHistogram {
            attributes: with(&self.service, labels).into(),
            labels: labels
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
            histogram: self.clone(),
        }
    }
}

impl BoundHistogram {
    /// `value` in the unit of the name. Its bucket remembers the trace that runs now.
    pub fn record(&self, value: f64) {
        self.record_in(mesh_trace::current(), value);
    }

    /// As [`BoundHistogram::record`], for what another trace did.
    pub fn record_in(&self, trace: Option<TraceContext>, value: f64) {
        if trace.as_ref().is_some_and(|trace| trace.is_sampled()) {
            let labels: Vec<_> = self
                .labels
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            self.histogram.record_in(trace, value, &labels);
        } else {
            self.histogram.inner.record(value, &self.attributes);
        }
    }

    /// For histograms in seconds.
    pub fn record_duration(&self, duration: Duration) {
        self.record(duration.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MetricName, Metrics};
    use super::*;

    #[test]
    fn a_bound_instrument_is_the_same_series() {
        let metrics = Metrics::default().for_service("execution");
        let counter = metrics.counter(MetricName::StepsRecorded);
        let bound = counter.bound(&[("kind", "model")]);
        let quiet = metrics.render().unwrap();
        let shown =
            |count: u64| format!(r#"mesh_steps_recorded_total{{kind="model",mesh_service="execution"}} {count}"#);
        assert!(quiet.contains(&shown(0)), "{quiet}");
        bound.add(2);
        counter.add(1, &[("kind", "model")]);
        let text = metrics.render().unwrap();
        assert!(text.contains(&shown(3)), "{text}");
        let histogram = metrics.histogram(MetricName::InvocationDuration);
        histogram
            .bound(&[("outcome", "failed")])
            .record_duration(Duration::from_millis(3));
        histogram.record(0.003, &[("outcome", "failed")]);
        let text = metrics.render().unwrap();
        let count = r#"mesh_invocation_duration_seconds_count{mesh_service="execution",outcome="failed"} 2"#;
        assert!(text.contains(count), "{text}");
    }
}
