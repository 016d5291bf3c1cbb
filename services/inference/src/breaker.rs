//! The circuit breaker of one provider, as a pure state machine: what it was told, and what it answers at which time.
//!
//! closed: all pass. It opens after so many transient failures one after the other, or at so high a share of them within
//! a window. open: none passes; the rest doubles from one opening to the next, up to a bound. half open: after the rest
//! one probe passes; its success closes, its failure opens again (M. Nygard, Release It!, "Circuit Breaker").
//! Beside that a provider may itself ask for a pause (`Retry-After`): none passes until exactly then.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::BreakerRules;

/// What a try says about its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is there: an answer, or a refusal of the request itself.
    Alive,
    /// It failed in a way that may pass.
    Failed,
    /// It failed, and said when to come again.
    Resting(Duration),
    /// The try ended by our doing.
    Unknown,
}

/// Why nothing passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It asked for a pause.
    Asked,
    /// It has failed too often.
    Failing,
    /// It is being tried by another call.
    Probed,
}

/// Nothing passes before `until`, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closure {
    pub(crate) until: Instant,
    pub(crate) why: Why,
}

/// One try that passed; it is settled once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pass {
    generation: u64,
}

/// For metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Closed = 0,
    HalfOpen = 1,
    Open = 2,
}

#[derive(Debug, Clone, Copy)]
enum Circuit {
    Closed,
    Open { until: Instant },
    HalfOpen { is_probed: bool },
}

#[derive(Debug)]
pub(crate) struct Breaker {
    rules: BreakerRules,
    circuit: Circuit,
    /// Counts changes of the circuit: what passed before one says nothing about the time after it.
    generation: u64,
    /// Openings since it was last closed.
    openings: u32,
    failures_in_a_row: u32,
    window_began: Option<Instant>,
    tries: u32,
    failures: u32,
    resting_until: Option<Instant>,
}

impl Breaker {
    pub(crate) fn new(rules: BreakerRules) -> Self {
        Self {
            rules,
            circuit: Circuit::Closed,
            generation: 0,
            openings: 0,
            failures_in_a_row: 0,
            window_began: None,
            tries: 0,
            failures: 0,
            resting_until: None,
        }
    }

    /// Whether a try would pass now, without making it.
    pub(crate) fn look(&self, now: Instant) -> Result<(), Closure> {
        let until_and_why = match (self.resting_until, self.circuit) {
            (Some(until), _) if until > now => (until, Why::Asked),
            (_, Circuit::Open { until }) if until > now => (until, Why::Failing),
            // How long the probe takes nobody knows; a second is a fair time to ask again.
            (_, Circuit::HalfOpen { is_probed: true }) => (now + Duration::from_secs(1), Why::Probed),
            _ => return Ok(()),
        };
        let (until, why) = until_and_why;
        Err(Closure { until, why })
    }

    /// Lets one try pass, or says until when none does.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<Pass, Closure> {
        self.look(now)?;
        match self.circuit {
            Circuit::Closed => {}
            Circuit::Open { .. } | Circuit::HalfOpen { .. } => self.turn(Circuit::HalfOpen { is_probed: true }),
        }
        Ok(Pass {
            generation: self.generation,
        })
    }

    pub(crate) fn settle(&mut self, pass: Pass, outcome: Outcome, now: Instant) {
        if let Outcome::Resting(wish) = outcome {
            let until = now + wish.min(Duration::from_millis(self.rules.rest_max_ms));
            self.resting_until = self.resting_until.max(Some(until));
        }
        if pass.generation != self.generation {
            return;
        }
        match (self.circuit, outcome) {
            (Circuit::Closed, Outcome::Alive) => {
                self.failures_in_a_row = 0;
                self.count(now, 0);
            }
            (Circuit::Closed, Outcome::Failed) => {
                self.failures_in_a_row += 1;
                self.count(now, 1);
                if self.is_failing() {
                    self.open(now);
                }
            }
            (Circuit::HalfOpen { .. }, Outcome::Alive) => {
                self.openings = 0;
                self.turn(Circuit::Closed);
            }
            (Circuit::HalfOpen { .. }, Outcome::Failed) => self.open(now),
            // The next one probes.
            (Circuit::HalfOpen { .. }, _) => self.turn(Circuit::HalfOpen { is_probed: false }),
            _ => {}
        }
    }

    pub(crate) fn state(&self, now: Instant) -> State {
        match self.circuit {
            _ if self.resting_until.is_some_and(|until| until > now) => State::Open,
            Circuit::Closed => State::Closed,
            Circuit::Open { until } if until > now => State::Open,
            Circuit::Open { .. } | Circuit::HalfOpen { .. } => State::HalfOpen,
        }
    }

    fn count(&mut self, now: Instant, failures: u32) {
        let window = Duration::from_millis(self.rules.window_ms);
        if self.window_began.is_none_or(|began| now >= began + window) {
            (self.window_began, self.tries, self.failures) = (Some(now), 0, 0);
        }
        self.tries = self.tries.saturating_add(1);
        self.failures = self.failures.saturating_add(failures);
    }

    fn is_failing(&self) -> bool {
        let is_share_high =
            u64::from(self.failures) * 100 >= u64::from(self.tries) * u64::from(self.rules.failures_percent);
        self.failures_in_a_row >= self.rules.failures || (self.tries >= self.rules.tries_min && is_share_high)
    }

    fn open(&mut self, now: Instant) {
        let doubled = self.rules.open_ms.saturating_mul(1 << self.openings.min(32));
        let rest = Duration::from_millis(doubled.min(self.rules.open_max_ms));
        self.openings = self.openings.saturating_add(1);
        self.turn(Circuit::Open { until: now + rest });
    }

    fn turn(&mut self, circuit: Circuit) {
        self.circuit = circuit;
        self.generation += 1;
        (self.failures_in_a_row, self.window_began) = (0, None);
    }
}

#[cfg(test)]
mod tests;
