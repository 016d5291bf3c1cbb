//! What to do after a failure. Pure: the time left and the randomness are arguments.

use std::time::Duration;

use mesh_models::TryError;
use mesh_types::Code;
use tokio::time::Instant;

use crate::config::Limits;
use crate::governor::Refused;

/// What a pause without a wish is drawn from never exceeds this.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(20);
/// How often one call waits for a provider that rests.
const RESTS_MAX: u32 = 3;

/// Why a try gave no answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Failure {
    Try(TryError),
    /// It was not made.
    Refused(Refused),
    /// An answer came, and does not follow the schema: what is wrong with it.
    Mismatch(String),
}

impl From<TryError> for Failure {
    fn from(error: TryError) -> Self {
        Self::Try(error)
    }
}

/// What was done about the failures of one model so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tried {
    retries: u32,
    rests: u32,
    corrections: u32,
}

/// What is left of the call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    pub(super) time: Duration,
    /// Another model can be asked.
    pub(super) has_next: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The same model again, after a pause.
    Again(Duration),
    /// The next model, if there is one.
    MoveOn,
}

/// What comes next, and counts it in `tried`. `random` is at least 0 and below 1.
///
/// Pauses without a wish are drawn from zero to a bound that doubles ("full jitter": M. Brooker, "Exponential Backoff And
/// Jitter", AWS Architecture Blog, 2015), so that callers cut off together come back apart. A wish of the provider is
/// kept in full; one that the call's time does not allow, or that is long while another model can be asked, moves on.
pub(super) fn next(failure: &Failure, tried: &mut Tried, left: Left, limits: &Limits, random: f64) -> Next {
    let jitter = |retries: u32| {
        let bound = Duration::from_millis(limits.retry_delay_ms).saturating_mul(1 << retries.min(16));
        bound.min(RETRY_DELAY_MAX).mul_f64(random)
    };
    let pause = match failure {
        Failure::Try(error) if error.is_transient() && tried.retries < limits.retries_max => {
            let wish = error.retry_after().unwrap_or(Duration::ZERO);
            if left.has_next && wish > Duration::from_millis(limits.retry_wait_max_ms) {
                return Next::MoveOn;
            }
            let pause = wish.saturating_add(jitter(tried.retries));
            tried.retries += 1;
            pause
        }
        // There is nobody else to ask, and it is known until when.
        Failure::Refused(refused @ Refused::Resting { .. }) if !left.has_next && tried.rests < RESTS_MAX => {
            let pause = refused.wait(Instant::now()).saturating_add(jitter(0));
            tried.rests += 1;
            pause
        }
        Failure::Mismatch(_) if tried.corrections == 0 => {
            tried.corrections = 1;
            Duration::ZERO
        }
        _ => return Next::MoveOn,
    };
    if pause < left.time {
        Next::Again(pause)
    } else {
        Next::MoveOn
    }
}

/// 0 to 1, from the seed of a call and the number of a try (the finalizer of SplitMix64).
pub(super) fn random(seed: u64, number: u32) -> f64 {
    let mut mixed = seed.wrapping_add(u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

impl Failure {
    /// In words that are journaled.
    pub(super) fn reason(&self, tried: Tried) -> String {
        let times = |count: u32| match count {
            0 => String::new(),
            count => format!(" ({} tries)", count + 1),
        };
        match self {
            Self::Try(error) => format!("{error}{}", times(tried.retries)),
            Self::Refused(refused) => refused.reason(),
            Self::Mismatch(mistakes) => format!(
                "the answer does not follow the schema: {mistakes}{}",
                times(tried.corrections)
            ),
        }
    }

    pub(super) fn code(&self) -> Code {
        match self {
            Self::Refused(_) => Code::ModelBusy,
            Self::Try(error) if error.is_refusal() => Code::ModelRefused,
            // It said when to come again, as a busy one does.
            Self::Try(error) if error.is_transient() && error.retry_after().is_some() => Code::ModelBusy,
            Self::Try(_) | Self::Mismatch(_) => Code::ModelFailed,
        }
    }

    /// When asking this model again makes sense, if that is known.
    pub(super) fn ask_again_in(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::Refused(refused) => Some(refused.wait(now)),
            Self::Try(error) if error.is_transient() => error.retry_after(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_types::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::breaker::Why;

    const LONG: Duration = Duration::from_secs(100);

    fn status(status: u16, retry_after: Option<Duration>) -> Failure {
        Failure::Try(TryError::Status {
            status,
            message: String::new(),
            retry_after,
        })
    }

    fn left(time: Duration, has_next: bool) -> Left {
        Left { time, has_next }
    }

    fn first(failure: &Failure, left: Left) -> Next {
        next(failure, &mut Tried::default(), left, &Limits::default(), 0.5)
    }

    #[test]
    fn a_wish_is_kept_unless_the_time_or_a_fallback_forbids_it() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (wish, time, has_next, is_kept) in [
            (3, 100, true, true),
            (3, 3, true, false),
            (30, 100, true, false),
            (30, 100, false, true),
            (200, 100, false, false),
        ] {
            let next = first(&status(429, seconds(wish)), left(Duration::from_secs(time), has_next));
            match next {
                Next::Again(pause) => assert!(is_kept && pause >= Duration::from_secs(wish), "{wish} of {time}"),
                Next::MoveOn => assert!(!is_kept, "{wish} of {time}"),
            }
        }
    }

    #[test]
    fn what_cannot_heal_is_not_tried_again() {
        for code in [400, 401, 403, 404, 413, 422] {
            let failure = status(code, Some(Duration::ZERO));
            assert_eq!(first(&failure, left(LONG, false)), Next::MoveOn, "{code}");
        }
    }

    #[test]
    fn a_resting_provider_is_waited_for_only_when_nobody_else_can_be_asked() {
        let refused = Failure::Refused(Refused::Resting {
            provider: "openai".into(),
            until: Instant::now() + Duration::from_secs(2),
            at: Timestamp::EPOCH,
            why: Why::Asked,
        });
        assert_eq!(first(&refused, left(LONG, true)), Next::MoveOn);
        assert!(matches!(first(&refused, left(LONG, false)), Next::Again(pause) if pause > Duration::from_secs(1)));
        assert_eq!(first(&refused, left(Duration::from_secs(1), false)), Next::MoveOn);
        let busy = Failure::Refused(Refused::Busy {
            provider: "openai".into(),
            moves_in: Duration::ZERO,
        });
        assert_eq!(first(&busy, left(LONG, false)), Next::MoveOn, "it waited already");
    }

    #[test]
    fn an_answer_is_corrected_once() {
        let (failure, mut tried) = (Failure::Mismatch("x".into()), Tried::default());
        let limits = Limits::default();
        let again = next(&failure, &mut tried, left(LONG, true), &limits, 0.5);
        assert_eq!(again, Next::Again(Duration::ZERO));
        assert_eq!(next(&failure, &mut tried, left(LONG, true), &limits, 0.5), Next::MoveOn);
        assert!(failure.reason(tried).contains("2 tries"));
    }

    proptest! {
        /// Whatever fails, however often: it ends, no pause is longer than the time left, and none without a wish is
        /// above its bound.
        #[test]
        fn it_always_comes_to_an_end(
            kinds in proptest::collection::vec((0..5_u8, 0..60_u64), 1..60),
            retries_max in 0..10_u32,
            seed in any::<u64>(),
            has_next in any::<bool>(),
        ) {
            let limits = Limits { retries_max, ..Limits::default() };
            let (mut tried, mut time, mut again) = (Tried::default(), LONG, 0);
            for (number, (kind, seconds)) in kinds.into_iter().enumerate() {
                let wish = Duration::from_secs(seconds);
                let failure = match kind {
                    0 => status(429, Some(wish)),
                    1 => status(503, None),
                    2 => status(400, None),
                    3 => Failure::Mismatch(String::new()),
                    _ => Failure::Refused(Refused::Resting {
                        provider: "p".into(), until: Instant::now() + wish, at: Timestamp::EPOCH, why: Why::Failing,
                    }),
                };
                let random = random(seed, u32::try_from(number).unwrap());
                prop_assert!((0.0..1.0).contains(&random));
                match next(&failure, &mut tried, left(time, has_next), &limits, random) {
                    Next::Again(pause) => {
                        prop_assert!(pause < time);
                        prop_assert!(kind != 1 || pause <= RETRY_DELAY_MAX);
                        time -= pause;
                        again += 1;
                    }
                    Next::MoveOn => break,
                }
            }
            prop_assert!(again <= retries_max + RESTS_MAX + 1);
        }
    }
}
