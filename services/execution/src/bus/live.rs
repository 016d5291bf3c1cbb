//! The feed of everything: committed batches of any shard above marks (EXECUTION §9).

use std::sync::Arc;

use mesh_api::Caller;
use mesh_api::live::{ShardFeedPage, ShardFeedRequest, ShardPage};
use mesh_types::{Code, Problem};
use sqlx::PgPool;

use crate::shards::SHARDS;
use crate::state::State;
use crate::store::live::{self, Entry};
use crate::store::shards;

/// Batches of one shard in an answer.
const BATCHES_MAX: i64 = 256;
/// Records that one answer looks at, unless a single batch holds more.
const RECORDS_MAX: usize = 4_096;

/// As the lanes' role: a feed has no tenant, and only services ask for it.
pub(super) async fn feed(
    state: &Arc<State>,
    _caller: Caller,
    request: ShardFeedRequest,
) -> Result<ShardFeedPage, Problem> {
    if request.after.len() > usize::from(SHARDS) || request.after.iter().any(|mark| mark.shard >= SHARDS) {
        let detail = format!("an installation has {SHARDS} shards");
        return Err(Problem::new(Code::InvalidRequest, detail).field("after"));
    }
    read(&state.pool, &request)
        .await
        .map_err(|error| mesh_store::to_problem(error, "read the feed"))
}

/// One snapshot for all statements. With one each, what is pruned meanwhile would be passed over in silence:
///
/// ```text
/// read                                          prune
/// heads: shard 3 keeps batches from 7 on
///                                               deletes batches 7 to 9 of shard 3
/// batches above 6: 10 to 12, `to` is 12
/// ```
///
/// The reader, told that all from 7 on is kept, would go on after 12 and never hear of 7 to 9. The same goes for the
/// records of a batch, which go with their invocation.
async fn read(pool: &PgPool, request: &ShardFeedRequest) -> Result<ShardFeedPage, sqlx::Error> {
    let mut tx = pool
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let feed_id = shards::feed_id(&mut *tx).await?;
    let heads = live::heads(&mut tx).await?;
    let mut pages: Vec<ShardPage> = request
        .after
        .iter()
        .map(|mark| ShardPage {
            shard: mark.shard,
            to: mark.after,
            notes: Vec::new(),
        })
        .collect();
    if !pages.is_empty() {
        let batches = live::batches(&mut tx, &request.after, BATCHES_MAX).await?;
        let mut wanted: Vec<Entry> = Vec::new();
        for (shard, batch, entries) in batches {
            if !wanted.is_empty() && wanted.len() + entries.len() > RECORDS_MAX {
                break;
            }
            if let Some(page) = pages.iter_mut().find(|page| page.shard == shard) {
                page.to = batch;
                wanted.extend(entries);
            }
        }
        for (shard, note) in live::notes(&mut tx, &wanted, request.tenant.as_ref()).await? {
            if let Some(page) = pages.iter_mut().find(|page| page.shard == shard) {
                page.notes.push(note);
            }
        }
    }
    tx.commit().await?;
    Ok(ShardFeedPage { feed_id, heads, pages })
}
