//! Until when a worker may start effects: a second less than the lease, from the sending of the last request that the
//! owner of its invocation answered (EXECUTION.md §6.4). By the monotonic clock of this machine alone.

use std::time::Duration;

use mesh_types::Clock;
use tokio::sync::watch;

/// What an effect may take to get going, and clocks to differ by.
const MARGIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Lease {
    /// On the monotonic clock.
    until: watch::Sender<Duration>,
}

impl Lease {
    pub(crate) fn new(sent: Duration, lease: Duration) -> Self {
        Self {
            until: watch::Sender::new(sent + lease),
        }
    }

    /// The owner has answered a request that was sent then.
    pub(crate) fn renew(&self, sent: Duration, lease: Duration) {
        self.until.send_if_modified(|until| {
            let is_longer = sent + lease > *until;
            *until = (*until).max(sent + lease);
            is_longer
        });
    }

    /// Whether an effect may start now.
    pub(crate) fn allows(&self, now: Duration) -> bool {
        now + MARGIN < *self.until.borrow()
    }

    /// Waits until an effect may start. `short` is called when the lease has to be renewed for that.
    pub(crate) async fn allowed(&self, clock: &dyn Clock, short: impl Fn()) {
        let mut renewed = self.until.subscribe();
        while !self.allows(clock.monotonic()) {
            short();
            // The sender lives as long as `self`.
            let _ = renewed.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use mesh_types::Timestamp;

    use super::*;

    const LEASE: Duration = Duration::from_secs(15);

    struct Fixed(Mutex<Duration>);
    impl Clock for Fixed {
        fn now(&self) -> Timestamp {
            Timestamp::EPOCH
        }
        fn monotonic(&self) -> Duration {
            *self.0.lock().unwrap()
        }
    }

    #[test]
    fn no_effect_starts_in_the_last_second_and_an_older_answer_shortens_nothing() {
        let at = Duration::from_secs;
        let lease = Lease::new(at(100), LEASE);
        assert!(lease.allows(at(113)) && !lease.allows(at(114)) && !lease.allows(at(120)));
        lease.renew(at(105), LEASE);
        lease.renew(at(101), LEASE);
        assert!(lease.allows(at(118)) && !lease.allows(at(119)));
    }

    #[tokio::test]
    async fn who_is_late_waits_for_the_owner() {
        let clock = Arc::new(Fixed(Mutex::new(Duration::from_secs(30))));
        let lease = Arc::new(Lease::new(Duration::ZERO, LEASE));
        let asked = AtomicUsize::new(0);
        let waiting = lease.allowed(clock.as_ref(), || {
            asked.fetch_add(1, Ordering::SeqCst);
        });
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        lease.renew(Duration::from_secs(10), LEASE);
        assert!(futures::poll!(&mut waiting).is_pending(), "over already");
        lease.renew(Duration::from_secs(30), LEASE);
        assert!(futures::poll!(&mut waiting).is_ready());
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }
}
