//! Clocks of simulated processes: tokio's paused time, each with an offset of its own that may jump.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use mesh_types::{Clock, Timestamp};
use tokio::time::Instant;

/// 2026-11-21, so that ids look like those of a real day.
const BASE_MICROS: i64 = 1_795_258_800_000_000;

#[derive(Debug)]
pub(super) struct SimClock {
    started: Instant,
    booted: Instant,
    offset_micros: AtomicI64,
}

impl SimClock {
    pub(super) fn new(started: Instant, offset_micros: i64) -> Arc<Self> {
        Arc::new(Self {
            started,
            booted: Instant::now(),
            offset_micros: AtomicI64::new(offset_micros),
        })
    }

    /// Somebody sets the clock.
    pub(super) fn jump(&self, micros: i64) {
        self.offset_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(BASE_MICROS + elapsed + self.offset_micros.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.booted.elapsed()
    }
}
