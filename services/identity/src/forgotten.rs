//! A node that the registry forgot has no secret any more, and is cut off: at the event, and, as events get lost, at a
//! look at the whole fleet now and then.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_api::fleet::NodeAll;
use mesh_api::{Caller, PageQuery};
use mesh_runtime::{Doorbell, PassReport, run_loop};
use mesh_types::event::Event;
use mesh_types::subject::Filter;
use mesh_types::{NodeId, Problem, Subject, Tenant, Timestamp};

use crate::callout;
use crate::state::{State, failed};
use crate::store::node_secrets::{self, Known};

const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Secrets that are read at once.
const PAGE: i64 = 1_000;
/// Nodes that are asked for at once.
const NODES: u32 = 500;

pub(crate) async fn run(state: Arc<State>) {
    let kind = "node".parse().expect("a literal token");
    let mut events = match state.context.bus.subscribe(&Filter::EventsAbout(kind)).await {
        Ok(events) => events,
        Err(error) => {
            tracing::warn!(%error, "forgotten nodes are not heard of");
            return;
        }
    };
    while let Some(Some(event)) = state.context.shutdown.run_until_cancelled(events.next()).await {
        let Ok(Subject::Event { id, verb, .. }) = event.subject.parse() else {
            continue;
        };
        if verb.as_str() != "forgotten" {
            continue;
        }
        let node = NodeId::from(id);
        // One that cannot be read is left to the sweep.
        let Ok(Event { at, .. }) = serde_json::from_slice(&event.payload) else {
            tracing::warn!(%node, "the event of a forgotten node cannot be read");
            continue;
        };
        if let Err(problem) = strike_off(&state, &node, None, at).await {
            tracing::warn!(%problem, %node, "a forgotten node keeps its secret for now");
        }
    }
}

/// Strikes off what the registry does not know, at the start and then now and then.
pub(crate) async fn sweep(state: Arc<State>) {
    let context = state.context.clone();
    run_loop(context, "forgotten-nodes", Doorbell::new(), SWEEP_EVERY, || {
        let state = Arc::clone(&state);
        async move {
            tokio::select! {
                swept = sweep_once(&state) => match swept {
                    Ok(struck) => PassReport { plan_size: struck, error: None },
                    Err(problem) => PassReport::failed(problem),
                },
                () = state.context.shutdown.cancelled() => PassReport::default(),
            }
        }
    })
    .await;
}

/// How many were struck off.
async fn sweep_once(state: &State) -> Result<usize, Problem> {
    // In this order: a node is registered before it gets a secret, so one whose secret was seen is in the list.
    let secrets = secrets(state).await?;
    if secrets.is_empty() {
        return Ok(0);
    }
    let nodes = nodes(state).await?;
    let mut struck = 0;
    for known in secrets {
        let tenant = nodes.get(&known.node);
        if tenant == Some(&known.tenant) {
            continue;
        }
        strike_off(state, &known.node, tenant, known.issued_at).await?;
        struck += 1;
    }
    Ok(struck)
}

async fn secrets(state: &State) -> Result<Vec<Known>, Problem> {
    let mut all: Vec<Known> = Vec::new();
    let mut tx = state.begin_for_all().await?;
    loop {
        let after = all.last().map(|known| known.node.clone());
        let page = node_secrets::list_all(&mut tx, after.as_ref(), PAGE)
            .await
            .map_err(failed("listing nodes' secrets"))?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

/// Every node that the registry knows, with its tenant.
async fn nodes(state: &State) -> Result<HashMap<NodeId, Tenant>, Problem> {
    let caller = Caller::service("identity", Tenant::default());
    let mut all = HashMap::new();
    let mut query = PageQuery {
        limit: Some(NODES),
        after: None,
    };
    loop {
        let page = state.context.bus.call::<NodeAll>(&caller, &query).await?;
        all.extend(page.items.into_iter().map(|entry| (entry.node_id, entry.tenant)));
        let Some(next) = page.next else {
            return Ok(all);
        };
        query.after = Some(next);
    }
}

/// `keep` and `until` as in [`node_secrets::strike_off`]. Who has another secret by now stays connected.
async fn strike_off(state: &State, node: &NodeId, keep: Option<&Tenant>, until: Timestamp) -> Result<(), Problem> {
    let doing = "striking off a node's secret";
    let mut tx = state.begin_for_all().await?;
    node_secrets::strike_off(&mut tx, node, keep, until)
        .await
        .map_err(failed(doing))?;
    // Another instance may have been quicker, and the connections are known to this one.
    let left = node_secrets::get(&mut *tx, node).await.map_err(failed(doing))?;
    tx.commit().await.map_err(failed(doing))?;
    if left.is_none() {
        callout::cut_off(state, node.as_str()).await;
    }
    Ok(())
}
