//! What this process has to do with nodes: what they may run, their tickets, and their bells, rung when something waits
//! for them, again every two seconds while it does, and when one of them is to stop something.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{join_all, select_all};
use mesh_api::node::Bell;
use mesh_runtime::{Context, Roads};
use mesh_types::{InvocationId, NodeId, Subject};
use sqlx::PgPool;
use tokio::sync::oneshot;

use crate::fleet::Fleet;
use crate::lane::command::{Command, LaneHandle};
use crate::tickets::Tickets;

/// While something waits.
const AGAIN: Duration = Duration::from_secs(2);
/// Rings within so long are one.
const COALESCE: Duration = Duration::from_millis(3);
const LANE_DEADLINE: Duration = Duration::from_secs(2);
/// Past it all are forgotten, and what they stream is believed until the next grant.
const EPOCHS_MAX: usize = 65_536;

pub(crate) struct Nodes {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) roads: Arc<Roads>,
    pub(crate) tickets: Tickets,
    /// Newest epoch that this process granted to a node.
    epochs: Mutex<HashMap<InvocationId, u32>>,
}

impl Nodes {
    pub(crate) fn new(context: &Context, pool: PgPool) -> Arc<Self> {
        let roads = Roads::of_execution(context);
        Arc::new(Self {
            fleet: Arc::default(),
            tickets: Tickets::new(pool, Arc::clone(&roads)),
            roads,
            epochs: Mutex::default(),
        })
    }

    pub(crate) fn granted(&self, id: InvocationId, epoch: u32) {
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        if epochs.len() >= EPOCHS_MAX {
            epochs.clear();
        }
        let known = epochs.entry(id).or_default();
        *known = epoch.max(*known);
    }

    /// Whether nobody was granted it under a later epoch, as far as this process knows.
    pub(crate) fn is_newest(&self, id: InvocationId, epoch: u32) -> bool {
        let epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        epochs.get(&id).is_none_or(|known| epoch >= *known)
    }
}

pub(crate) struct Ringer {
    pub(crate) context: Context,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) lanes: Vec<LaneHandle>,
    pub(crate) instance: String,
}

impl Ringer {
    pub(crate) async fn run(self) {
        // Tokens are not checked before it is read; who needs it later reads it then.
        if let Err(problem) = self.nodes.tickets.key().await {
            tracing::warn!(%problem, "the key of tickets is not read yet");
        }
        loop {
            let bells = self.lanes.iter().map(|lane| &lane.gauges.nodes.bell);
            let bells = bells.chain([&self.nodes.fleet.changed]);
            let bells = bells.map(|bell| Box::pin(bell.wait(AGAIN)));
            tokio::select! {
                biased;
                () = self.context.shutdown.cancelled() => return,
                _ = select_all(bells) => {}
            }
            tokio::time::sleep(COALESCE).await;
            let gauges = self.lanes.iter().map(|lane| &lane.gauges);
            let stops = gauges.flat_map(|gauges| gauges.nodes.take_stops());
            let stops: BTreeSet<NodeId> = stops.filter_map(|node| node.parse().ok()).collect();
            let wanted = self.wanted().await;
            for node in stops.union(&wanted) {
                self.ring(node.clone(), stops.contains(node)).await;
            }
        }
    }

    /// Nodes that may run something of what waits here.
    async fn wanted(&self) -> BTreeSet<NodeId> {
        let with_work = |lane: &&LaneHandle| lane.gauges.placed.load(Ordering::Relaxed) > 0;
        let asked = self.lanes.iter().filter(with_work).map(async |lane| {
            let (answer, answered) = oneshot::channel();
            lane.send(Command::WhoWaits(answer)).ok()?;
            tokio::time::timeout(LANE_DEADLINE, answered).await.ok()?.ok()
        });
        let waiting: BTreeSet<_> = join_all(asked).await.into_iter().flatten().flatten().collect();
        self.nodes.fleet.nodes_for(&waiting)
    }

    async fn ring(&self, node: NodeId, stops: bool) {
        let bell = Bell {
            owner: self.instance.clone(),
            stops,
        };
        let payload = serde_json::to_vec(&bell).unwrap_or_default();
        if let Err(error) = self.context.bus.publish(&Subject::Bell { node }, payload.into()).await {
            tracing::debug!(%error, "a node is not rung; it is again in two seconds");
        }
    }
}
