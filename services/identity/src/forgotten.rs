//! A node that the registry forgot has no secret any more, and is cut off.

use std::sync::Arc;

use mesh_types::subject::Filter;
use mesh_types::{NodeId, Problem, Subject};

use crate::callout;
use crate::state::{State, failed};
use crate::store::node_secrets;

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
        if let Err(problem) = strike_off(&state, &node).await {
            tracing::warn!(%problem, %node, "a forgotten node keeps its secret");
        }
    }
}

async fn strike_off(state: &State, node: &NodeId) -> Result<(), Problem> {
    let doing = "striking off a node's secret";
    let mut tx = state.begin_for_all().await?;
    node_secrets::strike_off(&mut tx, node, None)
        .await
        .map_err(failed(doing))?;
    tx.commit().await.map_err(failed(doing))?;
    callout::cut_off(state, node.as_str()).await;
    Ok(())
}
