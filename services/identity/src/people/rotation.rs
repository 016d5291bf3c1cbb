//! What becomes of a session when one of its refresh tokens is shown. Each is good once; one that was used before says
//! that two hold it, and then the whole family ends. Pure.
//!
//! A lost answer must not sign a person out. The page shows T₁ and the answer with T₂ is lost; it shows T₁ again:
//!
//! ```text
//! page   T₁ ──────────► used(1)         page   T₁ ──────────► T₂′ (within 10 s, and no token of generation 2 was used)
//!           ◄── lost ── T₂              page   T₂′ ─────────► used(2)
//! thief  T₁ ──────────► generation 2 is used: reuse, the family ends
//! ```
//!
//! T₂ and T₂′ are of one generation. The first of them that is used makes the other one a token that was used before:
//! a thief who was quick enough to get T₂′ signs out himself and the page as soon as both have come back.

use std::time::Duration;

use mesh_types::Timestamp;

use crate::credential::{Hash, is_same};

/// How long a used token may come again.
pub(crate) const AGAIN: Duration = Duration::from_secs(10);

/// Where a session stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Family {
    /// The newest generation of which a token was used; 0 before the first.
    pub(crate) generation: i32,
    pub(crate) used_hash: Option<Vec<u8>>,
    pub(crate) used_at: Option<Timestamp>,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) expires_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next token is of this generation.
    Next(i32),
    /// The session is over already.
    Over,
    /// Two hold the token: the session ends.
    Reused,
}

pub(crate) fn decide(family: &Family, shown: &Hash, generation: i32, now: Timestamp) -> Verdict {
    if family.ended_at.is_some() || family.expires_at <= now {
        return Verdict::Over;
    }
    if generation > family.generation {
        return Verdict::Next(generation + 1);
    }
    let is_the_last =
        generation == family.generation && family.used_hash.as_ref().is_some_and(|used| is_same(used, shown));
    if is_the_last && family.used_at.is_some_and(|at| now.since(at) <= AGAIN) {
        return Verdict::Next(generation + 1);
    }
    Verdict::Reused
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_258_800_000);

    fn later(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    fn family() -> Family {
        Family {
            generation: 0,
            used_hash: None,
            used_at: None,
            ended_at: None,
            expires_at: later(1_000),
        }
    }

    /// The family after that token was used.
    fn used(family: Family, token: Hash, generation: i32, at: Timestamp) -> Family {
        Family {
            generation,
            used_hash: Some(token.to_vec()),
            used_at: Some(at),
            ..family
        }
    }

    const T1: Hash = [1; 32];
    const T2: Hash = [2; 32];
    const T2_AGAIN: Hash = [22; 32];

    #[test]
    fn each_token_is_good_once() {
        let family = family();
        assert_eq!(decide(&family, &T1, 1, NOW), Verdict::Next(2));
        let family = used(family, T1, 1, NOW);
        assert_eq!(decide(&family, &T2, 2, later(5)), Verdict::Next(3));
        let family = used(family, T2, 2, later(5));
        assert_eq!(decide(&family, &T1, 1, later(6)), Verdict::Reused);
    }

    #[test]
    fn a_lost_answer_signs_nobody_out() {
        let family = used(family(), T1, 1, NOW);
        assert_eq!(decide(&family, &T1, 1, later(10)), Verdict::Next(2));
        assert_eq!(decide(&family, &T1, 1, later(11)), Verdict::Reused);
        // Both successors are of one generation: the second that comes back is one too many.
        let family = used(family, T2_AGAIN, 2, later(3));
        assert_eq!(decide(&family, &T2, 2, later(4)), Verdict::Reused);
        assert_eq!(decide(&family, &T1, 1, later(4)), Verdict::Reused);
    }

    #[test]
    fn what_is_over_stays_over() {
        assert_eq!(decide(&family(), &T1, 1, later(1_000)), Verdict::Over);
        let ended = Family {
            ended_at: Some(NOW),
            ..family()
        };
        assert_eq!(decide(&ended, &T1, 1, NOW), Verdict::Over);
    }
}
