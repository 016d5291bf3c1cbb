//! Tests only: what a lane holds between two batches, to compare with what is committed.

use mesh_types::InvocationId;

use super::Lane;
use super::command::Look;
use super::memory::Owned;
use crate::core::OpenRow;
use crate::shards::ShardId;
use crate::store::ledger::Ledger;

/// One shard of a lane.
pub(crate) struct Seen {
    pub(crate) shard: ShardId,
    pub(crate) epoch: i64,
    pub(crate) batch: i64,
    pub(crate) rows: Vec<(InvocationId, OpenRow)>,
}

impl<L: Ledger> Lane<L> {
    pub(super) fn show(&self, look: &Look) {
        for (shard, Owned { epoch, batch }) in &self.shards {
            (look.0)(Seen {
                shard: *shard,
                epoch: *epoch,
                batch: *batch,
                rows: self.memory.snapshot(*shard),
            });
        }
    }
}
