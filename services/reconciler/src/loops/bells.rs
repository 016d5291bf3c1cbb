//! What makes a pass run before its time: events of nodes and agents, presence that comes or goes, a new connection.
//! None of it carries data into the plan.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use mesh_bus::{Bucket, BusError, Subscription};
use mesh_types::Token;
use mesh_types::subject::Filter;

use crate::state::State;

/// News of so short a time are one pass.
const TOGETHER: Duration = Duration::from_millis(50);
const SUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

/// Many rings within a moment become one.
pub(super) async fn gather(state: Arc<State>) {
    let shutdown = state.context.shutdown.clone();
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = state.news.rung() => {}
        }
        tokio::time::sleep(TOGETHER).await;
        state.pass_bell.ring();
    }
}

pub(super) async fn events(state: Arc<State>) {
    let mut reconnects = state.context.bus.reconnects();
    loop {
        let heard = match subscribe(&state).await {
            Ok((nodes, agents)) => futures::stream::select(nodes, agents),
            Err(error) => {
                tracing::warn!(%error, "events are not heard yet");
                tokio::time::sleep(SUBSCRIBE_PAUSE).await;
                continue;
            }
        };
        let mut heard = std::pin::pin!(heard);
        loop {
            tokio::select! {
                () = state.context.shutdown.cancelled() => return,
                // What was said meanwhile was missed.
                changed = reconnects.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    state.shown.doubt();
                    state.ring();
                }
                event = heard.next() => match event {
                    Some(_) => state.ring(),
                    None => break,
                },
            }
        }
    }
}

async fn subscribe(state: &State) -> Result<(Subscription, Subscription), BusError> {
    let about = |kind: &str| Filter::EventsAbout(kind.parse::<Token>().expect("a literal of this file is a token"));
    let bus = &state.context.bus;
    let nodes = bus.subscribe(&about("node")).await?;
    let agents = bus.subscribe(&about("agent")).await?;
    Ok((nodes, agents))
}

/// Presence is written again and again while a node is there: only what differs rings.
pub(super) async fn presence(state: Arc<State>) {
    let mut watch = state.context.bus.kv_watch(Bucket::Presence);
    let mut known: HashMap<String, Bytes> = HashMap::new();
    loop {
        let entry = tokio::select! {
            () = state.context.shutdown.cancelled() => return,
            entry = watch.next() => entry,
        };
        let Some(entry) = entry else { return };
        let is_news = match entry.value {
            Some(value) => known.insert(entry.key, value.clone()) != Some(value),
            None => known.remove(&entry.key).is_some(),
        };
        if is_news {
            state.ring();
        }
    }
}
