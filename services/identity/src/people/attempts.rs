//! Lockout: who guesses waits. An attempt is counted before its password is looked at, so that a hundred at once are
//! no hundred guesses; how it ended is noted afterwards.

use std::time::Duration;

use mesh_types::{Code, Problem, Timestamp};
use sha2::{Digest, Sha256};

use crate::credential::Hash;
use crate::state::{State, failed};
use crate::store::attempts as store;

/// Failures in a row until it is locked.
pub(crate) const FAILURES_MAX: i32 = 5;
pub(crate) const LOCKED: Duration = Duration::from_secs(30);
/// Failures that are older count no more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(15 * 60);
/// An attempt whose end nobody noted, as its process died, is over by then.
const PENDING_MAX: Duration = Duration::from_secs(30);
/// Until one of those under way is decided.
const SOON: Duration = Duration::from_secs(1);

/// What is known of one account or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) failed: i32,
    /// Under way.
    pub(crate) pending: i32,
    pub(crate) touched_at: Timestamp,
    pub(crate) locked_until: Option<Timestamp>,
}

impl Default for Count {
    fn default() -> Self {
        Self {
            failed: 0,
            pending: 0,
            touched_at: Timestamp::EPOCH,
            locked_until: None,
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Wrong,
    Right,
    /// Nobody knows whether it was right.
    Broken,
}

impl Count {
    /// One more attempt; else how long to wait.
    pub(crate) fn begin(self, now: Timestamp) -> Result<Self, Duration> {
        if let Some(until) = self.locked_until
            && until > now
        {
            return Err(until.since(now));
        }
        let idle = now.since(self.touched_at);
        let failed = if idle > FORGOTTEN_AFTER { 0 } else { self.failed };
        let pending = if idle > PENDING_MAX { 0 } else { self.pending };
        if failed + pending >= FAILURES_MAX {
            return Err(SOON);
        }
        Ok(Self {
            failed,
            pending: pending + 1,
            touched_at: now,
            locked_until: None,
        })
    }

    /// `clears`: a right one makes good the wrong ones before it, which holds for an account and not for an address: a
    /// stranger with one account of his own would guess on and on.
    pub(crate) fn end(self, end: End, clears: Clears, now: Timestamp) -> Self {
        let pending = (self.pending - 1).max(0);
        let failed = match (end, clears) {
            (End::Wrong, _) => self.failed + 1,
            (End::Right, Clears::Yes) => 0,
            (End::Right, Clears::No) | (End::Broken, _) => self.failed,
        };
        let is_locked = end == End::Wrong && failed >= FAILURES_MAX;
        Self {
            failed: if is_locked { 0 } else { failed },
            pending,
            touched_at: now,
            locked_until: if is_locked {
                Some(now.plus(LOCKED))
            } else {
                self.locked_until
            },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clears {
    Yes,
    No,
}

/// One attempt on its way.
#[derive(Debug)]
pub(crate) struct Attempt {
    subjects: [(Hash, Clears); 2],
}

impl Attempt {
    /// # Errors
    /// `TooManyAttempts` with the seconds to wait.
    pub(crate) async fn begin(state: &State, account: &str, address: &str) -> Result<Self, Problem> {
        let mut subjects = [
            (subject("account", account), Clears::Yes),
            (subject("address", address), Clears::No),
        ];
        // One order for everybody: two attempts lock the same rows.
        subjects.sort_unstable_by_key(|(hash, _)| *hash);
        let attempt = Self { subjects };
        let doing = "counting a sign-in";
        let now = state.context.clock.now();
        let mut tx = state.begin_for_all().await?;
        for (subject, _) in &attempt.subjects {
            let known = store::lock(&mut tx, subject, now).await.map_err(failed(doing))?;
            let next = known.begin(now).map_err(too_many)?;
            store::put(&mut tx, subject, next).await.map_err(failed(doing))?;
        }
        tx.commit().await.map_err(failed(doing))?;
        Ok(attempt)
    }

    /// Notes how it ended.
    pub(crate) async fn end(self, state: &State, end: End) -> Result<(), Problem> {
        let doing = "noting how a sign-in ended";
        let now = state.context.clock.now();
        let mut tx = state.begin_for_all().await?;
        for (subject, clears) in &self.subjects {
            let known = store::lock(&mut tx, subject, now).await.map_err(failed(doing))?;
            let next = known.end(end, *clears, now);
            store::put(&mut tx, subject, next).await.map_err(failed(doing))?;
        }
        tx.commit().await.map_err(failed(doing))
    }
}

fn subject(kind: &str, name: &str) -> Hash {
    Sha256::digest(format!("{kind}\n{name}")).into()
}

fn too_many(wait: Duration) -> Problem {
    let seconds = u32::try_from(wait.as_millis().div_ceil(1_000))
        .unwrap_or(u32::MAX)
        .max(1);
    let mut problem = Problem::new(
        Code::TooManyAttempts,
        format!("{FAILURES_MAX} sign-ins failed in a row for this account or from this address"),
    )
    .next(format!(
        "wait {seconds} s; an owner can set a new password: mesh users password LOGIN"
    ));
    problem.retry_after_seconds = Some(seconds);
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_258_800_000);

    fn later(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    fn wrong(count: Count, at: Timestamp) -> Count {
        count.begin(at).unwrap().end(End::Wrong, Clears::Yes, at)
    }

    #[test]
    fn the_fifth_failure_locks_for_thirty_seconds() {
        let mut count = Count::default();
        for _ in 0..5 {
            count = wrong(count, NOW);
        }
        assert_eq!(count.begin(later(1)), Err(Duration::from_secs(29)));
        assert!(count.begin(later(30)).is_ok());
        // Then there are five more.
        for _ in 0..4 {
            count = wrong(count, later(31));
        }
        assert!(count.begin(later(31)).is_ok());
        assert!(wrong(count, later(31)).begin(later(31)).is_err());
    }

    #[test]
    fn attempts_at_once_are_no_more_guesses() {
        let mut count = Count::default();
        for _ in 0..5 {
            count = count.begin(NOW).unwrap();
        }
        assert_eq!(count.begin(NOW), Err(SOON));
        // One that died with its process does not count for ever.
        assert!(count.begin(later(31)).is_ok());
        for _ in 0..5 {
            count = count.end(End::Wrong, Clears::Yes, NOW);
        }
        assert_eq!(count.begin(NOW), Err(LOCKED));
        assert_eq!(count.pending, 0);
    }

    #[test]
    fn a_right_one_clears_its_account_and_no_address() {
        let mut count = Count::default();
        for _ in 0..4 {
            count = wrong(count, NOW);
        }
        let right = |clears| count.begin(NOW).unwrap().end(End::Right, clears, NOW);
        assert_eq!(right(Clears::Yes).failed, 0);
        let address = right(Clears::No);
        assert_eq!(address.failed, 4);
        assert!(wrong(address, NOW).begin(NOW).is_err());
        assert_eq!(count.begin(NOW).unwrap().end(End::Broken, Clears::Yes, NOW).failed, 4);
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut count = Count::default();
        for _ in 0..4 {
            count = wrong(count, NOW);
        }
        assert_eq!(count.begin(later(16 * 60)).unwrap().failed, 0);
    }
}
