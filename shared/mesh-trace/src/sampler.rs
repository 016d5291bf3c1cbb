//! Which traces are recorded. Decided once, where a trace enters the mesh; all that follows goes by the decision.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What is recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Part of the new traces, 0 to 1; by the trace's id, so that every process says the same of it.
    pub ratio: f64,
    /// Most traces that begin per second in this process on each [`Way`]; 0: without a bound. With it, telemetry costs
    /// the same however much there is to do.
    pub per_second: u32,
}

impl Default for Sampling {
    /// Everything while there is little to do: 25 traces of about 20 spans cost less than a thousandth of a core.
    fn default() -> Self {
        Self {
            ratio: 1.0,
            per_second: 25,
        }
    }
}

/// How a trace enters; each way has a bound of its own, so that many reads do not hide the few invocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A request that changes nothing.
    Read,
    /// Any other request.
    Write,
    /// A message that nobody waits for.
    Message,
    /// Whoever asks has decided already that it be recorded.
    Wish,
}

const WAYS: usize = 4;

#[derive(Debug)]
pub(crate) struct Sampler {
    /// A trace whose id's lower half is below this is recorded.
    below: u128,
    limiters: Option<[Limiter; WAYS]>,
    began: Instant,
}

impl Sampler {
    pub(crate) fn new(sampling: Sampling) -> Self {
        let ratio = if sampling.ratio.is_nan() {
            0.0
        } else {
            sampling.ratio.clamp(0.0, 1.0)
        };
        let limiter = || Limiter::new(sampling.per_second);
        Self {
            // Exact at both ends: 2^64 at 1 is above every half.
            below: (ratio * 18_446_744_073_709_551_616.0) as u128,
            limiters: (sampling.per_second > 0).then(|| [limiter(), limiter(), limiter(), limiter()]),
            began: Instant::now(),
        }
    }

    pub(crate) fn decide(&self, trace_id: u128, way: Way) -> bool {
        let is_chosen = way == Way::Wish || trace_id & u128::from(u64::MAX) < self.below;
        is_chosen && self.has_room(way)
    }

    fn has_room(&self, way: Way) -> bool {
        let Some(limiters) = &self.limiters else {
            return true;
        };
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        limiters[way as usize].take(now)
    }
}

/// The generic cell rate algorithm (ITU-T I.371): one number, and a second's worth at once.
#[derive(Debug)]
struct Limiter {
    interval_ns: u64,
    /// When the next would be due if they came evenly, in nanoseconds since the sampler began.
    due_ns: AtomicU64,
}

const BURST_NS: u64 = 1_000_000_000;

impl Limiter {
    fn new(per_second: u32) -> Self {
        Self {
            interval_ns: 1_000_000_000 / u64::from(per_second.max(1)),
            due_ns: AtomicU64::new(0),
        }
    }

    fn take(&self, now_ns: u64) -> bool {
        let taken = self.due_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
            let next = due.max(now_ns).saturating_add(self.interval_ns);
            (next - now_ns <= BURST_NS.max(self.interval_ns)).then_some(next)
        });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_at_once_then_evenly() {
        let limiter = Limiter::new(10);
        let at = |now_ms: u64| (0..100).filter(|_| limiter.take(now_ms * 1_000_000)).count();
        assert_eq!(at(0), 10);
        assert_eq!(at(100), 1);
        assert_eq!(at(150), 0);
        assert_eq!(at(500), 4);
        assert_eq!(at(60_000), 10);
    }

    #[test]
    fn the_ratio_is_kept_and_its_ends_are_exact() {
        let part = |ratio: f64| {
            let sampler = Sampler::new(Sampling { ratio, per_second: 0 });
            let chosen = (0..20_000).filter(|_| sampler.decide(crate::trace_id(), Way::Write));
            chosen.count()
        };
        assert_eq!(
            (part(0.0), part(f64::NAN), part(1.0), part(7.0)),
            (0, 0, 20_000, 20_000)
        );
        let tenth = part(0.1);
        assert!((1_500..2_500).contains(&tenth), "{tenth}");
    }

    #[test]
    fn ways_do_not_take_from_each_other_and_a_wish_needs_no_luck() {
        let sampler = Sampler::new(Sampling {
            ratio: 0.0,
            per_second: 3,
        });
        assert!(!sampler.decide(1, Way::Write));
        let wishes = (0..10).filter(|_| sampler.decide(1, Way::Wish)).count();
        assert_eq!(wishes, 3);
        let sampler = Sampler::new(Sampling {
            ratio: 1.0,
            per_second: 3,
        });
        for way in [Way::Read, Way::Write, Way::Message] {
            assert_eq!((0..10).filter(|_| sampler.decide(1, way)).count(), 3, "{way:?}");
        }
    }
}
