//! A rate, by the generic cell rate algorithm in its form of virtual scheduling (ITU-T I.371, annex A): the state is one
//! time, the "theoretical arrival time" at which all that was taken will have flowed back.

use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// When something may pass; the later one is the greater one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ready {
    Now,
    At(Instant),
    WhenOneEnds,
}

/// Holds what flows in within a minute, as providers' own limits do.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_minute: u32,
    /// `None`: nothing was ever taken.
    full_at: Option<Instant>,
}

impl Bucket {
    pub(crate) fn per_minute(units: u32) -> Self {
        Self {
            per_minute: units.max(1),
            full_at: None,
        }
    }

    /// More than the bucket can hold passes when it is full.
    pub(crate) fn ready(&self, units: u64, now: Instant) -> Ready {
        let Some(full_at) = self.full_at else {
            return Ready::Now;
        };
        let needed = self.time_of(units.min(self.per_minute.into()));
        // `full_at + needed - MINUTE`, without going below what an `Instant` can say.
        let at = full_at + needed;
        if at <= now + MINUTE {
            Ready::Now
        } else {
            Ready::At(now + (at - (now + MINUTE)))
        }
    }

    pub(crate) fn take(&mut self, units: u64, now: Instant) {
        let from = self.full_at.unwrap_or(now).max(now);
        self.full_at = Some(from + self.time_of(units));
    }

    /// `taken` was a guess; it was `used` in truth.
    pub(crate) fn correct(&mut self, taken: u64, used: u64) {
        let Some(full_at) = self.full_at else { return };
        let changed = if used >= taken {
            full_at.checked_add(self.time_of(used - taken))
        } else {
            full_at.checked_sub(self.time_of(taken - used))
        };
        self.full_at = changed.or(self.full_at);
    }

    pub(crate) fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|full_at| full_at <= now)
    }

    /// How long so many units take to flow in; at most ten minutes, so that no count, however wrong, closes for longer.
    fn time_of(&self, units: u64) -> Duration {
        let units = units.min(u64::from(self.per_minute) * 10);
        MINUTE.mul_f64(units as f64 / f64::from(self.per_minute))
    }
}
