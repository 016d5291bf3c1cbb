//! Waiting for a condition instead of sleeping, and the second delivery every handler must stand.

use std::panic::Location;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(5);

/// Waits until the condition holds.
///
/// # Panics
/// When it does not before the deadline, naming the place of the call.
#[track_caller]
pub fn wait_until<F: Future<Output = bool>>(
    deadline: Duration,
    mut condition: impl FnMut() -> F,
) -> impl Future<Output = ()> {
    let place = Location::caller();
    async move {
        let holds = async {
            while !condition().await {
                tokio::time::sleep(PAUSE).await;
            }
        };
        let held = tokio::time::timeout(deadline, holds).await;
        assert!(
            held.is_ok(),
            "the condition at {place} does not hold after {deadline:?}"
        );
    }
}

/// Hands the same message to a handler twice, one after the other, and answers both results.
pub async fn deliver_twice<M: Clone, R, F: Future<Output = R>>(message: M, handler: impl Fn(M) -> F) -> (R, R) {
    let first = handler(message.clone()).await;
    (first, handler(message).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test(start_paused = true)]
    async fn a_condition_that_comes_true_is_waited_for() {
        let asked = Cell::new(0);
        wait_until(Duration::from_secs(1), || {
            asked.set(asked.get() + 1);
            async { asked.get() == 3 }
        })
        .await;
        assert_eq!(asked.get(), 3);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "does not hold after 1s")]
    async fn a_condition_that_stays_false_fails_the_test() {
        wait_until(Duration::from_secs(1), || async { false }).await;
    }

    #[tokio::test]
    async fn a_handler_sees_the_message_twice() {
        let seen = Cell::new(0);
        let results = deliver_twice("m", |message| {
            seen.set(seen.get() + 1);
            let times = seen.get();
            async move { (message, times) }
        })
        .await;
        assert_eq!(results, (("m", 1), ("m", 2)));
    }
}
