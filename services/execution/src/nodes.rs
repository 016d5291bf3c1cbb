//! The nodes that are there, as far as this process heard, and their bells: rung when something waits for nodes, again
//! every two seconds while it does, and when one of them is to stop something.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::select_all;
use mesh_api::node::Bell;
use mesh_runtime::{Context, Doorbell};
use mesh_types::{NodeId, Subject};
use sqlx::PgPool;

use crate::directory::{Directory, Owner};
use crate::lane::command::LaneHandle;
use crate::post::{self, Ring};
use crate::shards::SHARDS;
use crate::tickets::Tickets;

/// A node that was silent for so long is not rung any more; it says that it is there every ten seconds.
const PRESENT: Duration = Duration::from_secs(60);
/// How often the other owners are told of a node.
const TELL_EVERY: Duration = Duration::from_secs(20);
/// While something waits.
const AGAIN: Duration = Duration::from_secs(2);
/// Rings within so long are one.
const COALESCE: Duration = Duration::from_millis(3);

pub(crate) struct Nodes {
    seen: Mutex<HashMap<NodeId, Seen>>,
    /// A node came.
    came: Doorbell,
    pub(crate) tickets: Tickets,
}

/// By the monotonic clock.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Duration,
    told: Option<Duration>,
}

impl Nodes {
    pub(crate) fn new(pool: PgPool) -> Arc<Self> {
        Arc::new(Self {
            seen: Mutex::default(),
            came: Doorbell::new(),
            tickets: Tickets::new(pool),
        })
    }

    /// It asked this process. Whether the others are to be told of it.
    pub(crate) fn asked(&self, node: &NodeId, now: Duration) -> bool {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.entry(node.clone()).or_insert(Seen { at: now, told: None });
        seen.at = now;
        let is_due = seen.told.is_none_or(|told| now.saturating_sub(told) >= TELL_EVERY);
        if is_due {
            seen.told = Some(now);
        }
        is_due
    }

    /// Another process told of it.
    pub(crate) fn heard_of(&self, node: &NodeId, now: Duration) {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.insert(
            node.clone(),
            Seen {
                at: now,
                told: Some(now),
            },
        );
        drop(all);
        if known.is_none() {
            self.came.ring();
        }
    }

    fn present(&self, now: Duration) -> BTreeSet<NodeId> {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, seen| now.saturating_sub(seen.at) < PRESENT);
        all.keys().cloned().collect()
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
        loop {
            let bells = self.lanes.iter().map(|lane| &lane.gauges.nodes.bell);
            let bells = bells.chain([&self.nodes.came]).map(|bell| Box::pin(bell.wait(AGAIN)));
            tokio::select! {
                biased;
                () = self.context.shutdown.cancelled() => return,
                _ = select_all(bells) => {}
            }
            tokio::time::sleep(COALESCE).await;
            let gauges = self.lanes.iter().map(|lane| &lane.gauges);
            let stops = gauges.clone().flat_map(|gauges| gauges.nodes.take_stops());
            let stops: BTreeSet<NodeId> = stops.filter_map(|node| node.parse().ok()).collect();
            let waiting: usize = gauges.map(|gauges| gauges.placed.load(Ordering::Relaxed)).sum();
            let mut all = stops.clone();
            if waiting > 0 {
                all.append(&mut self.nodes.present(self.context.clock.monotonic()));
            }
            for node in all {
                let stops = stops.contains(&node);
                self.ring(node, stops).await;
            }
        }
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

/// The other owners ring it too from now on.
pub(crate) async fn tell_others(context: &Context, directory: &Directory, node: &NodeId) {
    let mut others = BTreeSet::new();
    for shard in 0..SHARDS {
        if let Owner::There(instance) = directory.owner(shard) {
            others.insert(instance);
        }
    }
    for instance in others {
        post::ring(context, &instance, Ring::Node(node.clone())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_is_there_for_a_minute_and_the_others_are_told_now_and_then() {
        let options = sqlx::postgres::PgPoolOptions::new();
        let nodes = Nodes::new(options.connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap());
        let (a, b): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let at = Duration::from_secs;
        assert!(nodes.asked(&a, at(0)));
        assert!(!nodes.asked(&a, at(19)));
        assert!(nodes.asked(&a, at(20)));
        nodes.heard_of(&b, at(50));
        assert_eq!(nodes.present(at(79)), BTreeSet::from([a, b.clone()]));
        assert_eq!(nodes.present(at(80)), BTreeSet::from([b]));
    }
}
