//! What the endpoints of `execution` share.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mesh_api::journal::TokenChunk;
use mesh_runtime::Context;
use mesh_types::Subject;
use sqlx::PgPool;
use tokio::sync::mpsc;

use crate::config::Config;
use crate::directory::{Directory, Owner};
use crate::hosted::Slots;
use crate::lane::command::LaneHandle;
use crate::nodes::Nodes;
use crate::post::{self, Postbox, Ring};
use crate::relay::Marks;
use crate::router::Router;
use crate::shards::{SHARDS, ShardId};
use crate::steward::HandOver;

pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) context: Context,
    pub(crate) router: Arc<Router>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) lanes: Vec<LaneHandle>,
    pub(crate) marks: Arc<Marks>,
    pub(crate) slots: Arc<Slots>,
    /// As the lanes' role: any tenant.
    pub(crate) pool: PgPool,
    /// Under row level security.
    pub(crate) readers: PgPool,
    pub(crate) hand_overs: mpsc::UnboundedSender<HandOver>,
    pub(crate) postbox: Arc<Postbox>,
    pub(crate) nodes: Arc<Nodes>,
    /// Streamed text on its way to NATS; full means dropped, as the record supersedes it.
    pub(crate) tokens: mpsc::WeakSender<(Subject, TokenChunk)>,
}

impl State {
    pub(crate) fn lane(&self, shard: ShardId) -> &LaneHandle {
        &self.lanes[usize::from(shard) % self.lanes.len()]
    }

    /// Open invocations of this process.
    pub(crate) fn open(&self) -> u64 {
        self.sum(|lane| lane.gauges.open.load(Ordering::Relaxed))
    }

    /// Accepts that wait for a commit, and invocations that wait for a slot.
    pub(crate) fn waiting(&self) -> u64 {
        self.sum(|lane| lane.gauges.accepts.load(Ordering::Relaxed) + lane.gauges.ready.load(Ordering::Relaxed))
    }

    pub(crate) fn running(&self) -> u64 {
        self.slots.in_use().into()
    }

    /// Every process reads the pauses again; one that does not hear it does within two seconds.
    pub(crate) async fn ring_pauses(&self) {
        self.postbox.bell.ring();
        let mut others = std::collections::BTreeSet::new();
        for shard in 0..SHARDS {
            if let Owner::There(instance) = self.directory.owner(shard) {
                others.insert(instance);
            }
        }
        for instance in others {
            post::ring(&self.context, &instance, Ring::Pauses).await;
        }
    }

    fn sum(&self, of: impl Fn(&LaneHandle) -> usize) -> u64 {
        self.lanes.iter().map(|lane| of(lane) as u64).sum()
    }
}
