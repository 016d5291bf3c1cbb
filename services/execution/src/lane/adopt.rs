//! Loads a shard that was taken over: everything open, and who is runnable again.

use mesh_runtime::fail_point;

use super::Lane;
use super::memory::{Held, Lease, Open, Owned};
use super::steer::cancel_due;
use crate::core::RunState;
use crate::figures::Loss;
use crate::store::ledger::{Ledger, LedgerError};
use crate::store::load::LoadedRow;
use crate::store::shards::ShardRow;

impl<L: Ledger> Lane<L> {
    pub(super) async fn adopt_pending(&mut self) {
        for row in std::mem::take(&mut self.adopting) {
            if let Err(error) = self.adopt(&row).await {
                tracing::warn!(%error, shard = row.id, "the shard cannot be loaded; trying again");
                self.ledger.reset();
                self.adopting.push(row);
            }
        }
    }

    async fn adopt(&mut self, row: &ShardRow) -> Result<(), LedgerError> {
        let shard = row.id.cast_unsigned();
        let loaded = self.ledger.open(row.id).await?;
        let now = self.context.clock.now();
        // A second takeover of the same shard starts from nothing.
        self.memory.forget(shard);
        self.shards.insert(
            shard,
            Owned {
                epoch: row.epoch,
                batch: row.batch,
            },
        );
        self.context.relayed.set_committed(shard, row.batch);
        let count = loaded.rows.len();
        let mut lost = 0;
        let monotonic = self.context.clock.monotonic();
        for loaded in loaded.rows {
            let LoadedRow { meta, row, is_woken } = loaded;
            let id = meta.id;
            let mut open = Open::new(meta.into(), row);
            open.is_woken = is_woken;
            if let RunState::Running(holder) = &open.row.state {
                if open.meta.input.placed {
                    // The node lives on without its owner: a full lease to come back in.
                    open.held = Held::There(Lease {
                        until: monotonic + self.context.node_lease,
                        is_old: false,
                    });
                    self.memory.wake(id, now.plus(self.context.node_lease));
                } else {
                    // Hosted work died with its process: it is runnable at once, under the next epoch.
                    lost += 1;
                    tracing::info!(invocation = %id, epoch = open.row.epoch, holder = %holder.node, "its worker is gone; it will be claimed again");
                }
            }
            if open.row.cancelling {
                let at = cancel_due(now);
                open.cancel = Some((at, "operator_canceled".into()));
                self.memory.wake(id, at);
            }
            self.memory.insert(open);
        }
        for (parent, child) in loaded.children {
            if let Some(open) = self.memory.open.get_mut(&parent) {
                open.children.push(child);
            }
        }
        // When all are there: who is first of its session is known.
        let ids: Vec<_> = self
            .memory
            .open
            .iter()
            .filter(|(_, open)| open.meta.shard == shard)
            .map(|(id, _)| *id)
            .collect();
        ids.into_iter().for_each(|id| self.memory.enqueue(id, now));
        self.context.figures.lost(Loss::Owner, lost);
        (self.context.posted)(shard);
        fail_point!(async "execution.adopt.after");
        tracing::info!(
            shard,
            epoch = row.epoch,
            batch = row.batch,
            open = count,
            "owns the shard"
        );
        Ok(())
    }
}
