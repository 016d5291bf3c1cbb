//! What the endpoints of `execution` share.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mesh_api::Caller;
use mesh_api::journal::TokenChunk;
use mesh_runtime::{Context, Doorbell};
use mesh_store::Outbox;
use mesh_types::Subject;
use mesh_types::event::{Event, Fact};
use sqlx::{PgConnection, PgPool};
use tokio::sync::mpsc;

use crate::config::Config;
use crate::directory::{Directory, Owner};
use crate::figures::Figures;
use crate::hosted::Slots;
use crate::lane::SharedPauses;
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
    pub(crate) figures: Arc<Figures>,
    pub(crate) slots: Arc<Slots>,
    /// As the lanes' role: any tenant.
    pub(crate) pool: PgPool,
    /// Under row level security.
    pub(crate) readers: PgPool,
    pub(crate) hand_overs: mpsc::UnboundedSender<HandOver>,
    pub(crate) postbox: Arc<Postbox>,
    pub(crate) pauses: Arc<SharedPauses>,
    pub(crate) nodes: Arc<Nodes>,
    /// Rung after each commit that wrote an event.
    pub(crate) events_bell: Doorbell,
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

    /// Writes a fact beside the change that makes it true.
    pub(crate) async fn append(&self, tx: &mut PgConnection, caller: &Caller, fact: Fact) -> Result<(), sqlx::Error> {
        let event = Event {
            id: self.context.ids.next(),
            tenant: caller.tenant.clone(),
            at: self.context.clock.now(),
            actor: caller.actor.clone(),
            request_id: caller.request_id,
            change: None,
            fact,
        };
        Outbox::EXECUTION.append(tx, &event).await
    }

    /// Reads what is paused here; nothing that is starts after this.
    pub(crate) async fn read_pauses(&self) {
        if let Err(error) = post::read_pauses(&self.pool, &self.pauses, &self.lanes).await {
            tracing::warn!(%error, "pauses cannot be read; the postman tries again");
        }
    }

    /// Every process has read the pauses again; one that does not hear it does within two seconds.
    pub(crate) async fn ring_pauses(&self) {
        let mut others = std::collections::BTreeSet::new();
        for shard in 0..SHARDS {
            if let Owner::There(instance) = self.directory.owner(shard) {
                others.insert(instance);
            }
        }
        let rings = others
            .iter()
            .map(|instance| post::ring(&self.context, instance, Ring::Pauses));
        tokio::join!(self.read_pauses(), futures::future::join_all(rings));
    }

    fn sum(&self, of: impl Fn(&LaneHandle) -> usize) -> u64 {
        self.lanes.iter().map(|lane| of(lane) as u64).sum()
    }
}
