//! When a step is tried again. Transient problems count a try; a service that is not there at all counts none.

use std::time::Duration;

use mesh_api::journal::Effect;
use mesh_types::agent::{Backoff, Retry};
use mesh_types::{Code, Problem};

use crate::effects::Effects;

const DELAY: Duration = Duration::from_millis(200);
const DELAY_FIXED: Duration = Duration::from_millis(500);
const DELAY_MAX: Duration = Duration::from_secs(5);

/// The tries of one step under one claim.
pub(crate) struct Tries<'a> {
    policy: &'a Retry,
    /// An at_most_once effect is tried once: after a failure nobody knows whether it happened.
    is_single: bool,
    /// Spreads the waits of many workers; the same for the same step.
    seed: u64,
    tried: u32,
    waited: u32,
    /// Number of the running try as the record says it, from 1.
    pub(crate) attempt: u32,
    /// What the try before failed with.
    pub(crate) last: Option<Problem>,
}

impl<'a> Tries<'a> {
    pub(crate) fn new(policy: &'a Retry, effect: Effect, seed: u64) -> Self {
        Self {
            policy,
            is_single: effect == Effect::AtMostOnce,
            seed,
            tried: 0,
            waited: 0,
            attempt: 1,
            last: None,
        }
    }

    /// A try has failed: waits until the next one, or gives the problem back where there is none.
    pub(crate) async fn again(&mut self, effects: &impl Effects, problem: Problem) -> Result<(), Problem> {
        if self.is_single {
            return Err(problem);
        }
        let delay = if problem.is(Code::Unavailable) {
            self.waited += 1;
            delay(Backoff::Exponential, self.waited, self.seed)
        } else {
            self.tried += 1;
            if !problem.is_transient() || self.tried >= self.policy.attempts {
                return Err(problem);
            }
            self.attempt += 1;
            let asked = problem
                .retry_after_seconds
                .filter(|_| matches!(problem.status, 429 | 503))
                .unwrap_or(0);
            delay(self.policy.backoff, self.tried, self.seed).max(Duration::from_secs(asked.into()))
        };
        tracing::debug!(%problem, delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), "a step is tried again");
        self.last = Some(problem);
        effects.sleep(delay).await;
        Ok(())
    }
}

/// Wait after the `failures`-th failure, from 1; between half and all of the step of its ladder.
fn delay(backoff: Backoff, failures: u32, seed: u64) -> Duration {
    let full = match backoff {
        Backoff::None => return Duration::ZERO,
        Backoff::Fixed => DELAY_FIXED,
        Backoff::Exponential => DELAY
            .saturating_mul(1 << failures.saturating_sub(1).min(16))
            .min(DELAY_MAX),
    };
    // Fibonacci hashing: the high bits of the product are spread evenly.
    let spread = seed.wrapping_add(failures.into()).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let half = full / 2;
    half + Duration::from_nanos(u64::try_from(half.as_nanos()).unwrap_or(u64::MAX) / 1_000 * (spread % 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_wait_stays_within_its_bounds(failures in 1_u32.., seed: u64) {
            prop_assert_eq!(delay(Backoff::None, failures, seed), Duration::ZERO);
            let fixed = delay(Backoff::Fixed, failures, seed);
            prop_assert!(fixed >= DELAY_FIXED / 2 && fixed <= DELAY_FIXED);
            let exponential = delay(Backoff::Exponential, failures, seed);
            prop_assert!(exponential >= DELAY / 2 && exponential <= DELAY_MAX);
            prop_assert_eq!(exponential, delay(Backoff::Exponential, failures, seed));
        }
    }

    #[test]
    fn waits_grow() {
        let waits: Vec<_> = (1..8)
            .map(|failures| delay(Backoff::Exponential, failures, 7))
            .collect();
        assert!(
            waits[2] > waits[0] && waits[4] > waits[2] && waits[6] >= DELAY_MAX / 2,
            "{waits:?}"
        );
    }
}
