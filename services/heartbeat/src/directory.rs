//! What `registry` knows of nodes: whose they are and their registered mode. Read whole now and then, heard in between.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_api::fleet::{NodeAll, NodeEntry};
use mesh_api::{Caller, PageQuery, page};
use mesh_bus::{Bucket, Subscription};
use mesh_runtime::{Doorbell, PassReport};
use mesh_store::every_tenant_tx;
use mesh_types::event::{Event, Fact};
use mesh_types::fleet::NodeMode;
use mesh_types::subject::Filter;
use mesh_types::{NodeId, Tenant, Timestamp};

use crate::flush;
use crate::state::State;
use crate::store::life;

/// Nodes that are registered nowhere and gone for so long are forgotten.
const STRANGERS_KEPT: Duration = Duration::from_secs(24 * 3_600);
const BATCH: i64 = 500;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) tenant: Tenant,
    pub(crate) mode: NodeMode,
}

#[derive(Debug, Default)]
pub(crate) struct Directory {
    known: Mutex<Known>,
    /// Rings when it is to be read again.
    pub(crate) bell: Doorbell,
}

#[derive(Debug, Default)]
struct Known {
    nodes: HashMap<NodeId, Registered>,
    /// What was heard while all nodes were being read: newer than what is read.
    heard: Option<HashMap<NodeId, Option<Registered>>>,
}

impl Directory {
    pub(crate) fn get(&self, node: &NodeId) -> Option<Registered> {
        self.lock().nodes.get(node).cloned()
    }

    /// `None`: it is forgotten.
    pub(crate) fn hear(&self, node: NodeId, registered: Option<Registered>) {
        let mut known = self.lock();
        if let Some(heard) = &mut known.heard {
            heard.insert(node.clone(), registered.clone());
        }
        match registered {
            Some(registered) => known.nodes.insert(node, registered),
            None => known.nodes.remove(&node),
        };
    }

    fn begin(&self) {
        self.lock().heard = Some(HashMap::new());
    }

    fn replace(&self, mut nodes: HashMap<NodeId, Registered>) {
        let mut known = self.lock();
        for (node, registered) in known.heard.take().unwrap_or_default() {
            match registered {
                Some(registered) => nodes.insert(node, registered),
                None => nodes.remove(&node),
            };
        }
        known.nodes = nodes;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads all nodes, tells what was due of those that were not known, and forgets strangers that are long gone.
pub(crate) async fn pass(state: Arc<State>) -> PassReport {
    state.directory.begin();
    let nodes = match read(&state).await {
        Ok(nodes) => nodes,
        Err(error) => return PassReport::failed(error),
    };
    let count = nodes.len();
    state.directory.replace(nodes);
    let done = async {
        tell_all(&state).await?;
        forget_strangers(&state).await
    };
    match done.await {
        Ok(()) => PassReport::planned(count),
        Err(error) => PassReport::failed(error),
    }
}

async fn read(state: &State) -> Result<HashMap<NodeId, Registered>, mesh_types::Problem> {
    let caller = Caller::service(state.context.service, Tenant::default());
    let mut nodes = HashMap::new();
    let mut after = None;
    loop {
        let query = PageQuery {
            limit: Some(page::LIMIT_MAX),
            after,
        };
        let read = state.context.bus.call::<NodeAll>(&caller, &query).await?;
        nodes.extend(
            read.items
                .into_iter()
                .map(|entry| (entry.node_id.clone(), registered(&entry))),
        );
        after = read.next;
        if after.is_none() {
            return Ok(nodes);
        }
    }
}

pub(crate) fn registered(entry: &NodeEntry) -> Registered {
    Registered {
        tenant: entry.tenant.clone(),
        mode: entry.configuration.mode,
    }
}

async fn tell_all(state: &State) -> Result<(), sqlx::Error> {
    let mut after = String::new();
    loop {
        let due = life::all_untold(&state.pool, &after, BATCH).await?;
        let Some(last) = due.last() else { return Ok(()) };
        after.clone_from(last);
        tell(state, &due).await?;
    }
}

async fn tell(state: &State, nodes: &[String]) -> Result<(), sqlx::Error> {
    let mut tx = every_tenant_tx(&state.pool).await?;
    let told = flush::announce(state, &mut tx, nodes).await?;
    tx.commit().await?;
    if told > 0 {
        state.relay_bell.ring();
    }
    Ok(())
}

async fn forget_strangers(state: &State) -> Result<(), sqlx::Error> {
    let kept = i64::try_from(STRANGERS_KEPT.as_micros()).unwrap_or(i64::MAX);
    let before = Timestamp::from_micros(state.now().as_micros().saturating_sub(kept));
    let mut after = String::new();
    loop {
        let gone = life::gone_before(&state.pool, before, &after, BATCH).await?;
        let Some(last) = gone.last() else { return Ok(()) };
        after.clone_from(last);
        let is_stranger = |name: &&String| name.parse().is_ok_and(|node| state.directory.get(&node).is_none());
        let strangers: Vec<String> = gone.iter().filter(is_stranger).cloned().collect();
        if !strangers.is_empty() {
            life::forget(&state.pool, &strangers).await?;
        }
    }
}

/// What happens to nodes at `registry`; what is missed is read by the next pass.
pub(crate) fn events() -> Filter {
    Filter::EventsAbout("node".parse().expect("a literal of six letters is a token"))
}

pub(crate) async fn hear(state: Arc<State>, mut events: Subscription) {
    loop {
        let message = tokio::select! {
            message = events.next() => message,
            () = state.context.shutdown.cancelled() => return,
        };
        let Some(message) = message else { return };
        let Ok(event) = serde_json::from_slice::<Event>(&message.payload) else {
            continue;
        };
        let heard = match event.fact {
            Fact::NodeRegistered { node, mode, .. } | Fact::NodeUpdated { node, mode, .. } => {
                let registered = Registered {
                    tenant: event.tenant,
                    mode,
                };
                state.directory.hear(node.clone(), Some(registered));
                tell(&state, &[node.to_string()]).await
            }
            Fact::NodeForgotten { node, .. } => forget(&state, node).await,
            _ => Ok(()),
        };
        if let Err(error) = heard {
            tracing::debug!(%error, "what happened to a node is taken in by the next pass");
        }
    }
}

async fn forget(state: &State, node: NodeId) -> Result<(), sqlx::Error> {
    state.directory.hear(node.clone(), None);
    state.nodes().forget(&node);
    life::forget(&state.pool, &[node.to_string()]).await?;
    if let Err(error) = state.context.bus.kv_delete(Bucket::Presence, node.as_str()).await {
        tracing::debug!(%node, %error, "the presence of a forgotten node expires by itself");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tenant: &str) -> Registered {
        Registered {
            tenant: tenant.parse().unwrap(),
            mode: NodeMode::Private,
        }
    }

    #[test]
    fn what_is_heard_while_all_is_read_is_newer() {
        let directory = Directory::default();
        let [a, b, c] = ["a", "b", "c"].map(|name| name.parse::<NodeId>().unwrap());
        directory.hear(a.clone(), Some(of("early")));
        directory.begin();
        directory.hear(b.clone(), Some(of("heard")));
        directory.hear(c.clone(), None);
        assert_eq!(directory.get(&b), Some(of("heard")));
        directory.replace(HashMap::from([(b.clone(), of("read")), (c.clone(), of("read"))]));
        assert_eq!(
            (directory.get(&a), directory.get(&b), directory.get(&c)),
            (None, Some(of("heard")), None)
        );
        // Only while it is read.
        directory.begin();
        directory.replace(HashMap::from([(b.clone(), of("read"))]));
        assert_eq!(directory.get(&b), Some(of("read")));
    }
}
