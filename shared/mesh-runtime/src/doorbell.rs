//! A wake-up that carries no data: many rings before a wait are one. Who is woken re-reads the truth.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

pub use crate::loops::{LoopStatus, Loops, PassReport, run_loop};

/// Any number of ringers, one waiter. Clones are the same bell.
#[derive(Debug, Clone, Default)]
pub struct Doorbell {
    bell: Arc<Notify>,
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// Somebody rang since the last wait.
    Bell,
    /// Nobody did; the time is over.
    Tick,
}

impl Doorbell {
    pub fn new() -> Self {
        Self::default()
    }

    /// Never waits; a ring that meets no waiter is kept for the next one.
    pub fn ring(&self) {
        self.bell.notify_one();
    }

    /// Waits for a ring, at most `timeout`. Dropping the future loses no ring.
    pub async fn wait(&self, timeout: Duration) -> Rung {
        match tokio::time::timeout(timeout, self.bell.notified()).await {
            Ok(()) => Rung::Bell,
            Err(_) => Rung::Tick,
        }
    }

    /// Waits for a ring for ever.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn without_a_ring_the_tick_wakes() {
        let bell = Doorbell::new();
        let started = Instant::now();
        assert_eq!(bell.wait(Duration::from_secs(60)).await, Rung::Tick);
        assert_eq!(started.elapsed(), Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn rings_before_a_wait_are_one_and_are_not_lost() {
        let bell = Doorbell::new();
        let started = Instant::now();
        bell.ring();
        bell.clone().ring();
        bell.ring();
        assert_eq!(bell.wait(Duration::from_secs(60)).await, Rung::Bell);
        assert_eq!(started.elapsed(), Duration::ZERO);
        assert_eq!(bell.wait(Duration::from_secs(60)).await, Rung::Tick);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ring_ends_a_wait_at_once() {
        let bell = Doorbell::new();
        let started = Instant::now();
        let ringer = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            bell.ring();
        };
        let (rung, ()) = tokio::join!(bell.wait(Duration::from_secs(60)), ringer);
        assert_eq!(rung, Rung::Bell);
        assert_eq!(started.elapsed(), Duration::from_secs(5));
    }
}
