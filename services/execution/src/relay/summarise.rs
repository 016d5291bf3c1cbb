//! Summaries: those of ended invocations at once, those of open ones gathered for a moment. Most invocations end within
//! it, and are then written once. What is deferred is not lost with the process: the next owner writes all that is open.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::fail_point;
use mesh_types::InvocationId;
use tokio::time::Instant;

use super::{RETRY_PAUSE, Relay, Told};
use crate::core::Meta;
use crate::core::summary::{Summary, of_open};
use crate::shards::ShardId;
use crate::store::load;
use crate::store::summary::{SummaryWrite, upsert};

/// How long the summary of an open invocation may wait for its next change.
const DEFER: Duration = Duration::from_millis(150);
/// Deferred rows that are written before their time.
const DEFERRED_MAX: usize = 4_096;

/// Summaries of open invocations, the newest of each.
#[derive(Debug, Default)]
pub(crate) struct Deferred {
    rows: HashMap<InvocationId, (Arc<Meta>, Summary, i64, i32)>,
    since: Option<Instant>,
}

impl Deferred {
    /// When they are to be written; `None` if there are none.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + DEFER)
    }

    fn is_due(&self) -> bool {
        self.rows.len() >= DEFERRED_MAX || self.due().is_some_and(|due| due <= Instant::now())
    }
}

impl Relay {
    /// `false`: stopped before what must be written was.
    pub(super) async fn summarise(&mut self, told: &[Told]) -> bool {
        let mut rows: Vec<SummaryWrite<'_>> = Vec::new();
        for told in told {
            let Some(summary) = &told.summary else {
                continue;
            };
            if summary.state.is_ended() {
                self.deferred.rows.remove(&told.meta.id);
                rows.push(SummaryWrite {
                    meta: &told.meta,
                    summary,
                    batch: told.to,
                    ordinal: told.ordinal,
                });
            } else {
                let row = (Arc::clone(&told.meta), summary.clone(), told.to, told.ordinal);
                self.deferred.rows.insert(told.meta.id, row);
                self.deferred.since.get_or_insert_with(Instant::now);
                self.marks.set_deferring(true);
            }
        }
        let is_written = self.write(&rows).await;
        if self.deferred.is_due() {
            self.write_deferred().await;
        }
        is_written
    }

    pub(super) async fn write_deferred(&mut self) {
        let Deferred { rows, .. } = std::mem::take(&mut self.deferred);
        let rows: Vec<SummaryWrite<'_>> = rows
            .values()
            .map(|(meta, summary, batch, ordinal)| SummaryWrite {
                meta,
                summary,
                batch: *batch,
                ordinal: *ordinal,
            })
            .collect();
        self.write(&rows).await;
        self.marks.set_deferring(false);
    }

    /// What is open in a shard that was taken over: its last owner may have deferred it.
    pub(super) async fn summarise_open(&mut self, shard: ShardId, batch: i64) {
        let open = loop {
            let read = async {
                let mut connection = self.pool.acquire().await?;
                load::open(&mut connection, shard.cast_signed()).await
            };
            match read.await {
                Ok(open) => break open,
                Err(error) if !mesh_store::is_transient(&error) => {
                    tracing::error!(%error, shard, "what is open cannot be read; lists may lack it");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, shard, "what is open cannot be read; trying again")
                }
            }
            if self.stop.is_cancelled() {
                return;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        };
        let rows: Vec<(&Meta, Summary)> = open
            .rows
            .iter()
            .map(|loaded| (&loaded.meta, of_open(&loaded.row)))
            .collect();
        let rows: Vec<SummaryWrite<'_>> = rows
            .iter()
            // After all that the batch itself told, before the next batch.
            .map(|(meta, summary)| SummaryWrite {
                meta,
                summary,
                batch,
                ordinal: i32::MAX,
            })
            .collect();
        self.write(&rows).await;
    }

    /// Tried until it is written: a list that forgets would be noticed by nobody. `false`: stopped before.
    async fn write(&self, rows: &[SummaryWrite<'_>]) -> bool {
        if rows.is_empty() {
            return true;
        }
        fail_point!(async "execution.summary.before");
        while let Err(error) = upsert(&self.pool, rows).await {
            if !mesh_store::is_transient(&error) {
                // A row that Postgres refuses would stop all lists: leave it out and say so.
                tracing::error!(%error, rows = rows.len(), "summaries are refused; writing them one by one");
                self.summarise_each(rows).await;
                return true;
            }
            tracing::warn!(%error, "summaries cannot be written; trying again");
            if self.stop.is_cancelled() {
                return false;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        true
    }

    async fn summarise_each(&self, rows: &[SummaryWrite<'_>]) {
        for row in rows {
            let alone = SummaryWrite {
                meta: row.meta,
                summary: row.summary,
                batch: row.batch,
                ordinal: row.ordinal,
            };
            if let Err(error) = upsert(&self.pool, &[alone]).await {
                tracing::error!(%error, invocation = %row.meta.id, "its summary is refused; it is missing in lists");
            }
        }
    }
}
