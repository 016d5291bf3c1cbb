//! Loads a shard that was taken over: everything open, and who is runnable again.

use super::Lane;
use super::memory::{Open, Owned};
use super::write::in_time;
use crate::core::RunState;
use crate::store::load;
use crate::store::shards::ShardRow;

impl Lane {
    pub(super) async fn adopt_pending(&mut self) {
        for row in std::mem::take(&mut self.adopting) {
            if let Err(error) = self.adopt(&row).await {
                tracing::warn!(%error, shard = row.id, "the shard cannot be loaded; trying again");
                self.connection = None;
                self.adopting.push(row);
            }
        }
    }

    async fn adopt(&mut self, row: &ShardRow) -> Result<(), sqlx::Error> {
        let shard = row.id.cast_unsigned();
        let loaded = in_time(load::open(self.connection().await?, row.id)).await?;
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
        let count = loaded.len();
        for (meta, open_row) in loaded {
            let id = meta.id;
            // Hosted work died with its process: it is runnable at once, under the next epoch.
            let was_running = matches!(open_row.state, RunState::Running(_));
            if was_running {
                tracing::info!(invocation = %id, epoch = open_row.epoch, "its worker is gone; it will be claimed again");
            }
            self.memory.insert(Open {
                meta: meta.into(),
                row: open_row,
                spec: None,
                journal: Vec::new(),
                worker: None,
                waiters: Vec::new(),
            });
            self.memory.enqueue(id, now);
        }
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
