//! What is kept for a time only: keys for a week after the end, the feed for some days, invocations for some months;
//! partitions are made ahead.

use std::time::Duration;

use mesh_runtime::{Context, Doorbell, run_loop};
use mesh_types::Timestamp;
use sqlx::PgPool;

use crate::shards::SHARDS;
use crate::store::{housekeeping, prune, shards};

const EVERY: Duration = Duration::from_secs(3_600);
/// Rows of one statement: locks are held briefly, and the lanes' commits go on between two.
const ROWS: i64 = 2_000;
/// Fork trees of one transaction.
const TREES: i64 = 100;
const PAUSE: Duration = Duration::from_millis(50);
/// Statements of one pass and table; what is left waits for the next.
const STATEMENTS_MAX: u32 = 5_000;

/// How long things are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep {
    /// After the end of the invocation that used the key.
    pub(crate) keys: Duration,
    pub(crate) feed: Duration,
    /// After the end of the last of a fork tree; `None`: for ever.
    pub(crate) history: Option<Duration>,
}

/// One pass an hour until shutdown. Every process does it: the statements are idempotent, and skip what another
/// process has in hand.
pub(crate) async fn keep_house(context: Context, pool: PgPool, keep: Keep) {
    let pass = {
        let context = context.clone();
        move || {
            let (context, pool) = (context.clone(), pool.clone());
            async move { pass(&context, &pool, keep).await }
        }
    };
    run_loop(context, "housekeeping", Doorbell::new(), EVERY, pass).await;
}

/// Answers how many rows went.
async fn pass(context: &Context, pool: &PgPool, keep: Keep) -> Result<usize, sqlx::Error> {
    let now = context.clock.now();
    shards::ensure_partitions(pool, now.to_chrono()).await?;
    let before = |kept: Duration| {
        let micros = i64::try_from(kept.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(now.as_micros().saturating_sub(micros)).to_chrono()
    };
    let mut gone = 0;
    let keys_before = before(keep.keys);
    gone += repeat(context, || housekeeping::prune_keys(pool, keys_before, ROWS)).await?;
    let feed_before = before(keep.feed);
    for shard in 0..SHARDS {
        gone += repeat(context, || {
            housekeeping::prune_feed(pool, shard.cast_signed(), feed_before, ROWS)
        })
        .await?;
    }
    if let Some(history) = keep.history {
        let ended_before = before(history);
        gone += repeat(context, || prune::trees(pool, ended_before, TREES)).await?;
    }
    Ok(usize::try_from(gone).unwrap_or(usize::MAX))
}

/// Until nothing is left, or the process stops.
async fn repeat<F>(context: &Context, prune: impl Fn() -> F) -> Result<u64, sqlx::Error>
where
    F: Future<Output = Result<u64, sqlx::Error>>,
{
    let mut gone = 0;
    for _ in 0..STATEMENTS_MAX {
        let rows = prune().await?;
        gone += rows;
        if rows == 0 || context.shutdown.is_cancelled() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(gone)
}
