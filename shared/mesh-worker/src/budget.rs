//! How long a run may still take. Time in which nobody held the invocation does not count, be it that it waits or
//! that the mesh was down for an hour: it resumes instead of failing. The request's own deadline is wall time and does.

use std::time::Duration;

use mesh_api::journal::{Fact, Record};
use mesh_types::agent::Span;
use mesh_types::{Clock, Code, Problem, Timestamp};

use crate::grant::Grant;

/// Longer waits than this mean "for ever" to a timer.
const ALLOWED_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);

pub(crate) struct Budget {
    /// On the monotonic clock.
    started: Duration,
    allowed: Duration,
    limit: Limit,
}

#[derive(Clone, Copy)]
enum Limit {
    Timeout(Span),
    Deadline(Timestamp),
}

impl Budget {
    /// The narrower of `spec.limits.timeout`, less what earlier claims used, and the request's deadline.
    pub(crate) fn new(grant: &Grant, clock: &dyn Clock) -> Self {
        let timeout = grant.spec.limits.timeout;
        let left = timeout.0.saturating_sub(spent(&grant.journal));
        let until = grant.deadline.map(|deadline| (deadline, deadline.since(clock.now())));
        let (allowed, limit) = match until {
            Some((deadline, until)) if until < left => (until, Limit::Deadline(deadline)),
            _ => (left, Limit::Timeout(timeout)),
        };
        Self {
            started: clock.monotonic(),
            allowed: allowed.min(ALLOWED_MAX),
            limit,
        }
    }

    /// Zero when it is used up.
    pub(crate) fn left(&self, clock: &dyn Clock) -> Duration {
        self.allowed
            .saturating_sub(clock.monotonic().saturating_sub(self.started))
    }

    /// Names the limit and, if a step was being tried again, why.
    pub(crate) fn problem(&self, last: Option<&Problem>) -> Problem {
        let (what, field) = match self.limit {
            Limit::Timeout(span) => (
                format!("spec.limits.timeout of {span} is used up"),
                "spec.limits.timeout",
            ),
            Limit::Deadline(at) => (format!("the request's deadline {at} has passed"), "deadline_ms"),
        };
        let why = last
            .map(|last| format!("; the last try failed: {last}"))
            .unwrap_or_default();
        Problem::new(Code::DeadlineExceeded, what + &why).field(field)
    }
}

/// What claims before the newest one used, as far as their records tell.
fn spent(journal: &[Record]) -> Duration {
    let mut total = Duration::ZERO;
    let mut claim: Option<(u32, Timestamp, Timestamp)> = None;
    for record in journal {
        if matches!(record.fact, Fact::Claimed(_)) {
            total += claim.map_or(Duration::ZERO, |(_, from, to)| to.since(from));
            claim = Some((record.epoch, record.at, record.at));
        } else if matches!(record.fact, Fact::Waiting(_) | Fact::Released(_)) {
            total += claim
                .take()
                .map_or(Duration::ZERO, |(_, from, _)| record.at.since(from));
        } else if let Some((epoch, _, to)) = &mut claim
            && *epoch == record.epoch
        {
            *to = record.at;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_api::journal::{CancelRequested, Claimed, Released, WaitItem, WaitOn, Waiting};

    #[test]
    fn time_that_nobody_held_it_does_not_count() {
        let record = |seq, epoch, seconds: i64, fact| Record {
            seq,
            epoch,
            at: Timestamp::from_millis(seconds * 1_000),
            fact,
        };
        let claimed = || {
            Fact::Claimed(Claimed {
                holder: "a".into(),
                incarnation: 1,
            })
        };
        let other = || {
            Fact::CancelRequested(CancelRequested {
                actor: "a".into(),
                reason: "b".into(),
            })
        };
        let mut journal = vec![record(1, 1, 10, claimed()), record(2, 1, 14, other())];
        assert_eq!(spent(&journal), Duration::ZERO);
        journal.push(record(3, 2, 4_000, claimed()));
        assert_eq!(spent(&journal), Duration::from_secs(4));
        journal.push(record(4, 2, 4_003, other()));
        journal.push(record(5, 3, 9_000, claimed()));
        assert_eq!(spent(&journal), Duration::from_secs(7));
    }

    #[test]
    fn time_in_which_it_waits_does_not_count() {
        let record = |seq, epoch, seconds: i64, fact| Record {
            seq,
            epoch,
            at: Timestamp::from_millis(seconds * 1_000),
            fact,
        };
        let claimed = || {
            Fact::Claimed(Claimed {
                holder: "a".into(),
                incarnation: 1,
            })
        };
        // Its owner writes under the epoch of the last claim.
        let told = || {
            Fact::CancelRequested(CancelRequested {
                actor: "a".into(),
                reason: "b".into(),
            })
        };
        let on = WaitOn::Timer {
            until: Timestamp::EPOCH,
        };
        let items = vec![WaitItem { step: 1, on }];
        let paused = Released {
            reason: "paused".into(),
        };
        let journal = [
            record(1, 1, 10, claimed()),
            record(2, 1, 12, Fact::Waiting(Waiting { items })),
            record(3, 1, 8_000, told()),
            record(4, 2, 9_000, claimed()),
            record(5, 2, 9_001, Fact::Released(paused)),
            record(6, 2, 9_500, told()),
            record(7, 3, 20_000, claimed()),
        ];
        assert_eq!(spent(&journal), Duration::from_secs(3));
    }
}
