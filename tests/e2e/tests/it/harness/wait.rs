//! Waiting for what must come, and names that nobody else has.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(25);

/// Asks until there is an answer.
///
/// # Panics
/// When none comes before the deadline, with what was waited for.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    seconds: u64,
    what: &str,
    mut probe: impl FnMut() -> F,
) -> T {
    let asking = async {
        loop {
            if let Some(answer) = probe().await {
                return answer;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(seconds), asking)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {seconds} s"))
}

/// `<prefix>-<16 hex digits>`, a token.
pub(crate) fn unique(prefix: &str) -> String {
    format!("{prefix}-{:016x}", RandomState::new().hash_one(prefix))
}
