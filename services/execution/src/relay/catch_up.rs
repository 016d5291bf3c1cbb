//! From the feed table: what a dead owner committed and did not relay, or what this relay had to drop.

use std::sync::Arc;

use super::{Committed, CommittedInvocation, RETRY_PAUSE, Relay};
use crate::core::summary::{of_ended, of_open};
use crate::shards::ShardId;
use crate::store::feed;
use crate::store::read::{self, Phase};

/// Batches read at once.
const BATCHES: i64 = 64;

impl Relay {
    /// Relays the batches above the shard's mark, up to `to`.
    pub(super) async fn catch_up(&mut self, shard: ShardId, to: i64) {
        while self.marks.get(shard) < to && !self.stop.is_cancelled() {
            match self.read_batches(shard, to).await {
                // The feed is kept for days only: what is below its start cannot be told any more.
                Ok(batches) if batches.is_empty() => self.marks.set(shard, to),
                Ok(batches) => self.tell(batches).await,
                // A record that cannot be read now can never be: it must not keep all that follows from being told.
                Err(error) if !mesh_store::is_transient(&error) => {
                    tracing::error!(%error, shard, batch = self.marks.get(shard) + 1, "a batch of the feed cannot be relayed; it is left out");
                    self.skip_one(shard).await;
                }
                Err(error) => {
                    tracing::warn!(%error, shard, "the feed cannot be read; trying again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Relays the next batch alone, or leaves it out.
    async fn skip_one(&mut self, shard: ShardId) {
        let next = self.marks.get(shard) + 1;
        match self.read_batches(shard, next).await {
            Ok(batches) if !batches.is_empty() => self.tell(batches).await,
            Ok(_) => self.marks.set(shard, next),
            Err(error) if !mesh_store::is_transient(&error) => self.marks.set(shard, next),
            Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
        }
    }

    async fn read_batches(&self, shard: ShardId, to: i64) -> Result<Vec<Committed>, sqlx::Error> {
        let after = self.marks.get(shard);
        let rows = feed::batches(&self.pool, shard.cast_signed(), after, BATCHES.min(to - after)).await?;
        let entries: Vec<_> = rows.iter().flat_map(|(_, entries)| entries.iter().copied()).collect();
        let mut ids: Vec<_> = entries.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let records = feed::records(&self.pool, &entries).await?;
        let invocations: std::collections::HashMap<_, _> = read::invocations(&self.pool, &ids)
            .await?
            .into_iter()
            .map(|(meta, phase)| {
                // What it is now: a list that is ahead of its batch is no harm.
                let summary = match &phase {
                    Phase::Open(row) => of_open(row),
                    Phase::Ended(row) => of_ended(row),
                };
                (meta.id, (Arc::new(meta), summary))
            })
            .collect();
        Ok(rows
            .into_iter()
            .map(|(batch, entries)| {
                let mut committed: Vec<CommittedInvocation> = Vec::new();
                for ((id, seq), ordinal) in entries.into_iter().zip(0..) {
                    let Some((meta, summary)) = invocations.get(&id) else {
                        continue;
                    };
                    let record = records
                        .get(&id)
                        .and_then(|list| list.iter().find(|record| record.seq == seq));
                    committed.push(CommittedInvocation {
                        meta: Arc::clone(meta),
                        records: record.cloned().into_iter().collect(),
                        summary: Some(summary.clone()),
                        ordinal,
                    });
                }
                Committed {
                    shard,
                    batch,
                    bytes: 0,
                    invocations: committed,
                }
            })
            .collect())
    }
}
