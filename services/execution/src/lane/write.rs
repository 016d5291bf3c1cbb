//! Commits a batch and finds out what became of it: written, lost, refused, or sent again until it is known.

use std::time::Duration;

use mesh_runtime::planted::is_planted;

use super::Lane;
use super::plan::Planned;
use crate::core::Decision;
use crate::figures::Commit;
use crate::shards::ShardId;
use crate::store::feed;
use crate::store::ledger::{Ledger, LedgerError};
use crate::store::shards::ShardRow;
use crate::store::write::Fence;

const RETRY_PAUSE_MIN: Duration = Duration::from_millis(20);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What became of a group of decisions.
#[derive(Debug)]
pub(super) enum Written {
    /// Committed, but for the shards that were not ours any more.
    Done { lost: Vec<ShardId> },
    /// The database refuses a value or a key of it, and would again: nothing was written.
    Refused { message: String, unique: bool },
    /// The lane is stopped before the outcome is known.
    Stopped,
}

impl<L: Ledger> Lane<L> {
    pub(super) async fn commit(&mut self, planned: Vec<Planned>) {
        // Groups still to write, the next one last: a refused group is split until the culprit stands alone.
        let mut groups = vec![planned];
        while let Some(mut group) = groups.pop() {
            // A shard may have been lost by the group before.
            group = self.drop_lost(group);
            if group.is_empty() {
                continue;
            }
            match self.write_group(&group).await {
                Written::Done { lost } => self.apply(group, &lost),
                Written::Refused { message, unique } if group.len() == 1 => self.refuse(group, &message, unique),
                Written::Refused { .. } => {
                    let second = group.split_off(group.len() / 2);
                    groups.push(second);
                    groups.push(group);
                }
                Written::Stopped => return,
            }
        }
    }

    async fn write_group(&mut self, group: &[Planned]) -> Written {
        let fences = self.fences(group);
        let decisions: Vec<&Decision> = group.iter().map(|planned| &planned.decision).collect();
        let at = self.context.clock.now();
        let mut unknown = false;
        let mut pause = RETRY_PAUSE_MIN;
        loop {
            let began = self.context.clock.monotonic();
            match self.ledger.write(&fences, &decisions, at).await {
                Ok(standing) => match self.missing(&fences, &standing, unknown).await {
                    Ok(lost) => {
                        self.count_commit(&decisions, lost.len() == fences.len(), began);
                        return Written::Done { lost };
                    }
                    Err(error) => {
                        // What stood is committed: sent again, it will not stand, and is found written.
                        unknown = true;
                        tracing::warn!(%error, "shards cannot be read; asking again");
                    }
                },
                Err(LedgerError::Refused { message, unique }) => {
                    self.context.figures.not_committed(Commit::Refused);
                    return Written::Refused { message, unique };
                }
                Err(LedgerError::Aborted(error)) => {
                    self.context.figures.not_committed(Commit::Aborted);
                    tracing::warn!(%error, "a batch was aborted; sending it again");
                }
                Err(LedgerError::Unknown(_)) if is_planted("unknown_is_done") => {
                    return Written::Done { lost: Vec::new() };
                }
                Err(LedgerError::Unknown(error)) => {
                    unknown = true;
                    self.context.figures.not_committed(Commit::Unknown);
                    tracing::warn!(%error, "the outcome of a batch is unknown; sending it again");
                }
            }
            self.ledger.reset();
            tokio::select! {
                () = self.context.stop.cancelled() => return Written::Stopped,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_PAUSE_MAX),
            }
        }
    }

    fn count_commit(&self, decisions: &[&Decision], is_lost: bool, began: Duration) {
        if is_lost {
            return self.context.figures.not_committed(Commit::Lost);
        }
        let took = self.context.clock.monotonic().saturating_sub(began);
        let records = decisions.iter().map(|decision| decision.records.len()).sum();
        self.context.figures.committed(records, took);
    }

    fn fences(&self, group: &[Planned]) -> Vec<Fence> {
        let mut fences: Vec<Fence> = Vec::new();
        for planned in group {
            let shard = planned.decision.meta.shard;
            let place = fences
                .iter()
                .position(|fence| fence.shard == shard.cast_signed())
                .unwrap_or_else(|| {
                    let owned = self.shards.get(&shard).copied().unwrap_or_default();
                    fences.push(Fence {
                        shard: shard.cast_signed(),
                        epoch: owned.epoch,
                        batch: owned.batch,
                        relayed: self.context.relayed.get(shard),
                        feed: Vec::new(),
                    });
                    fences.len() - 1
                });
            // In the order in which the relay hears of them: their place is the ordinal of readers' cursors.
            let also = planned.decision.also.as_deref();
            for told in also.into_iter().chain([&planned.decision]) {
                for record in &told.records {
                    feed::pack(&mut fences[place].feed, told.id(), record.seq);
                }
            }
        }
        // One order in every process: no two batches wait for each other's shards.
        fences.sort_by_key(|fence| fence.shard);
        fences
    }

    /// The shards that are lost. One that was not returned is done if an earlier try of this very batch wrote it.
    async fn missing(
        &mut self,
        fences: &[Fence],
        standing: &[i16],
        unknown: bool,
    ) -> Result<Vec<ShardId>, LedgerError> {
        let missing: Vec<&Fence> = fences.iter().filter(|fence| !standing.contains(&fence.shard)).collect();
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<i16> = missing.iter().map(|fence| fence.shard).collect();
        let rows = self.ledger.shards(&ids).await?;
        Ok(missing
            .into_iter()
            .filter(|fence| !(unknown && rows.iter().any(|row| is_written(fence, row))))
            .map(|fence| fence.shard.cast_unsigned())
            .collect())
    }

    /// Splits off what belongs to shards that are gone; its callers hear that it moved.
    fn drop_lost(&mut self, group: Vec<Planned>) -> Vec<Planned> {
        let (kept, gone): (Vec<_>, Vec<_>) = group
            .into_iter()
            .partition(|planned| self.shards.contains_key(&planned.decision.meta.shard));
        for planned in gone {
            super::apply::answer_moved(planned.then);
        }
        kept
    }
}

/// Our own batch, committed by a try whose answer was lost.
fn is_written(fence: &Fence, row: &ShardRow) -> bool {
    row.id == fence.shard && row.epoch == fence.epoch && row.batch == fence.batch + 1
}
