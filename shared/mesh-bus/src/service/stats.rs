//! What an endpoint counts of its requests, for `$SRV.STATS` and for whoever observes the bus.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mesh_types::Problem;
use serde_json::{Value, json};

use crate::observe::{Answered, EndpointObserver};

/// Counters of one endpoint since its start.
pub(super) struct EndpointStats {
    name: String,
    subject: String,
    queue_group: String,
    requests: AtomicU64,
    errors: AtomicU64,
    nanoseconds: AtomicU64,
    times: Times,
    last_error: Mutex<String>,
    observer: Arc<dyn EndpointObserver>,
}

impl EndpointStats {
    pub(super) fn new(name: String, subject: String, queue_group: String, observer: Arc<dyn EndpointObserver>) -> Self {
        Self {
            name,
            subject,
            queue_group,
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            nanoseconds: AtomicU64::new(0),
            times: Times::default(),
            last_error: Mutex::default(),
            observer,
        }
    }

    /// It was worked on, for so long since it came; a problem is its answer.
    pub(super) fn handled(&self, took: Duration, problem: Option<&Problem>) {
        self.worked(took, problem.map_or(Answered::Ok, Answered::of));
        if let Some(problem) = problem {
            self.note(problem);
        }
    }

    fn worked(&self, took: Duration, answered: Answered) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        self.times.record(took);
        self.observer.answered(answered, Some(took));
    }

    /// It was not worked on, or its answer got lost.
    pub(super) fn failed(&self, problem: &Problem) {
        self.observer.answered(Answered::of(problem), None);
        self.note(problem);
    }

    /// When its turn came nobody waited any more.
    pub(super) fn late(&self) {
        self.observer.answered(Answered::Late, None);
    }

    pub(super) fn note(&self, problem: &Problem) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let text = format!("{}:{}", problem.status, problem.kind);
        // A text cannot be left half-written.
        *self
            .last_error
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = text;
    }

    pub(super) fn info(&self) -> Value {
        json!({
            "name": self.name,
            "subject": self.subject,
            "queue_group": self.queue_group,
            "metadata": {},
        })
    }

    /// `data` is the protocol's place for what a service says besides.
    pub(super) fn stats(&self) -> Value {
        let requests = self.requests.load(Ordering::Relaxed);
        let nanoseconds = self.nanoseconds.load(Ordering::Relaxed);
        let last_error = self
            .last_error
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        json!({
            "name": self.name,
            "subject": self.subject,
            "queue_group": self.queue_group,
            "num_requests": requests,
            "num_errors": self.errors.load(Ordering::Relaxed),
            "last_error": *last_error,
            "processing_time": nanoseconds,
            "average_processing_time": nanoseconds.checked_div(requests).unwrap_or(0),
            "data": { "p99_nanoseconds": self.times.quantile(0.99) },
        })
    }
}

/// Counts a request that its handler answers by itself, when it is dropped.
pub(super) struct Counted {
    stats: Arc<EndpointStats>,
    came: Instant,
    problem: Mutex<Option<Problem>>,
}

impl Counted {
    pub(super) fn new(stats: &Arc<EndpointStats>) -> Self {
        Self {
            stats: Arc::clone(stats),
            came: Instant::now(),
            problem: Mutex::default(),
        }
    }

    pub(super) fn note(&self, problem: &Problem) {
        let mut noted = self.problem.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        noted.get_or_insert_with(|| problem.clone());
    }
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counted")
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let took = self.came.elapsed();
        if std::thread::panicking() {
            // Whoever catches the panic tells the problem.
            self.stats.worked(took, Answered::Failed);
        } else {
            let noted = self
                .problem
                .get_mut()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            self.stats.handled(took, noted.as_ref());
        }
    }
}

/// Times in buckets that grow by a quarter, from 2 µs on: a quantile is off by at most so much.
struct Times([AtomicU64; BUCKETS]);

const BUCKETS: usize = 96;
const FIRST_NANOSECONDS: f64 = 2_000.0;
const GROWTH: f64 = 1.25;

impl Default for Times {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Times {
    fn record(&self, took: Duration) {
        let steps = (took.as_nanos() as f64 / FIRST_NANOSECONDS).max(1.0).ln() / GROWTH.ln();
        // Not negative, and cut to the last bucket.
        let bucket = (steps.ceil() as usize).min(BUCKETS - 1);
        self.0[bucket].fetch_add(1, Ordering::Relaxed);
    }

    /// The upper end of its bucket in nanoseconds; 0 without a request.
    fn quantile(&self, part: f64) -> u64 {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let all: u64 = counts.iter().sum();
        let wanted = (all as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in counts.into_iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return (FIRST_NANOSECONDS * GROWTH.powi(i32::try_from(bucket).unwrap_or(i32::MAX))) as u64;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_right_to_a_quarter() {
        let times = Times::default();
        assert_eq!(times.quantile(0.99), 0);
        for ms in 1..=1_000 {
            times.record(Duration::from_millis(ms));
        }
        for (part, ms) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let found = times.quantile(part) as f64 / 1e6;
            assert!(found >= ms && found <= ms * GROWTH, "{part}: {found}");
        }
        let extremes = Times::default();
        extremes.record(Duration::ZERO);
        assert_eq!(extremes.quantile(0.99), 2_000);
        extremes.record(Duration::from_secs(1_000_000));
        assert!(extremes.quantile(0.99) > 1_000_000_000);
    }
}
