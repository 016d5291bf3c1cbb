//! KV `PRESENCE`: writes the keys that heartbeats make due, and watches for those that expire.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use mesh_api::heartbeat::Presence;
use mesh_bus::{Bucket, BusError, KvEntry};
use mesh_runtime::MetricName;
use mesh_runtime::metrics::Counter;
use mesh_types::NodeId;
use tokio::sync::mpsc;

use crate::nodes::{KeyKind, KeyWrite};
use crate::state::State;

/// Keys that wait to be written; what is over it waits for its node's next heartbeat.
pub(crate) const WAITING_MAX: usize = 65_536;
/// Writes whose answer is awaited at the same time.
const IN_FLIGHT: usize = 64;
const BATCH: usize = 256;

/// Writes until the shutdown. A change is acknowledged by the bucket; a renewal is not awaited: the next one comes
/// before the key expires.
pub(crate) async fn write(state: Arc<State>, mut writes: mpsc::Receiver<KeyWrite>) {
    let counter = state.context.metrics.counter(MetricName::PresenceWrites);
    let mut in_flight = FuturesUnordered::new();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            biased;
            () = state.context.shutdown.cancelled() => return,
            Some((node, result)) = in_flight.next(), if !in_flight.is_empty() => {
                settled(&state, &counter, KeyKind::Change, &node, result);
            }
            count = writes.recv_many(&mut batch, BATCH), if in_flight.len() < IN_FLIGHT => {
                if count == 0 {
                    return;
                }
                for write in batch.drain(..) {
                    match write.kind {
                        KeyKind::Change => in_flight.push(change(&state, write)),
                        KeyKind::Renewal => {
                            let result = renew(&state, &write).await;
                            settled(&state, &counter, KeyKind::Renewal, &write.node, result);
                        }
                    }
                }
            }
        }
    }
}

async fn change(state: &State, write: KeyWrite) -> (NodeId, Result<(), BusError>) {
    let bus = &state.context.bus;
    let put = bus.kv_put_for(Bucket::Presence, write.node.as_str(), body(&write.presence), write.ttl);
    let result = put.await.map(drop);
    (write.node, result)
}

async fn renew(state: &State, write: &KeyWrite) -> Result<(), BusError> {
    let bus = &state.context.bus;
    bus.kv_renew(Bucket::Presence, write.node.as_str(), body(&write.presence), write.ttl)
        .await
}

fn settled(state: &State, counter: &Counter, kind: KeyKind, node: &NodeId, result: Result<(), BusError>) {
    let (kind, outcome) = match (kind, &result) {
        (KeyKind::Change, Ok(())) => ("change", "ok"),
        (KeyKind::Change, Err(_)) => ("change", "failed"),
        (KeyKind::Renewal, Ok(())) => ("renewal", "ok"),
        (KeyKind::Renewal, Err(_)) => ("renewal", "failed"),
    };
    counter.add(1, &[("kind", kind), ("outcome", outcome)]);
    if let Err(error) = result {
        tracing::debug!(%node, %error, "a node's presence is not written; its next heartbeat does it");
        state.nodes().key_gone(node);
    }
}

fn body(presence: &Presence) -> Bytes {
    serde_json::to_vec(presence).expect("two plain fields are JSON").into()
}

/// Hears of every key that is written by any process, and of every one that expires.
pub(crate) async fn watch(state: Arc<State>) {
    let mut watch = state.context.bus.kv_watch(Bucket::Presence);
    loop {
        let entry = tokio::select! {
            entry = watch.next() => entry,
            () = state.context.shutdown.cancelled() => return,
        };
        let Some(entry) = entry else { return };
        see(&state, &entry);
    }
}

fn see(state: &State, entry: &KvEntry) {
    let Ok(node) = entry.key.parse::<NodeId>() else {
        return;
    };
    let now = state.now();
    match &entry.value {
        Some(value) => {
            if let Ok(presence) = serde_json::from_slice::<Presence>(value) {
                state.nodes().key_seen(&node, presence, now);
            }
        }
        None => {
            let beat = state.nodes().key_gone(&node);
            state.suspects.add(node, beat.as_deref(), now);
        }
    }
}
