//! `complete`, `models` and `chat` as nodes ask them. `complete` is for an invocation that the node holds; `chat` is the
//! node's own, and its owner pays.

use std::sync::Arc;

use mesh_api::inference::{Chat, Chunk, Complete, CompleteRequest, Completion, Models};
use mesh_api::road::{ByNode, Ticketed};
use mesh_api::{Caller, Endpoint};
use mesh_bus::{ChunkSink, ServiceBuilder};
use mesh_runtime::Roads;
use mesh_types::{NodeId, Problem};

use super::{complete, models};
use crate::state::State;

pub(super) fn serve(service: ServiceBuilder, state: &Arc<State>) -> ServiceBuilder {
    let roads = Roads::new(&state.context);
    macro_rules! handler {
        ($handler:path) => {{
            let (state, roads) = (Arc::clone(state), Arc::clone(&roads));
            move |node, asked, sink| $handler(Arc::clone(&state), Arc::clone(&roads), node, asked, sink)
        }};
    }
    let listing = Arc::clone(state);
    service
        .node_stream_endpoint::<ByNode<Complete>, _, _>(handler!(of_invocation))
        .node_stream_endpoint::<Chat, _, _>(handler!(of_node))
        .node_endpoint::<Models, _, _>(move |_node, _request| models::handle(Arc::clone(&listing)))
}

async fn of_invocation(
    state: Arc<State>,
    roads: Arc<Roads>,
    node: NodeId,
    Ticketed { ticket, request }: Ticketed<CompleteRequest>,
    sink: ChunkSink<Chunk>,
) -> Result<Completion, Problem> {
    let caller = roads.admit(&node, Complete::NAME, &ticket).await?;
    // Who knows another one's key would be told its answer.
    let own = format!("{}/", ticket.invocation);
    let is_own = request.idempotency_key.as_ref().is_none_or(|key| key.starts_with(&own));
    roads.own(&node, Complete::NAME, is_own, "a model call of another invocation")?;
    complete::handle(state, caller, request, sink).await
}

async fn of_node(
    state: Arc<State>,
    roads: Arc<Roads>,
    node: NodeId,
    mut request: CompleteRequest,
    sink: ChunkSink<Chunk>,
) -> Result<Completion, Problem> {
    let entry = roads.entry(&node).await?;
    let caller = Caller {
        role: None,
        tenant: entry.tenant.clone(),
        actor: format!("user:{}", entry.owner),
        request_id: None,
    };
    // Its keys are its own: no invocation's key begins so.
    request.idempotency_key = request.idempotency_key.map(|key| format!("node:{node}/{key}"));
    let completion = complete::handle(state, caller, request, sink).await?;
    let account = entry
        .configuration
        .billable_account_uid
        .as_deref()
        .unwrap_or(&entry.owner);
    tracing::info!(
        %node,
        tenant = %entry.tenant,
        account,
        model = completion.model,
        input_tokens = completion.usage.input_tokens,
        output_tokens = completion.usage.output_tokens,
        cost_usd = completion.usage.cost_usd,
        "a chat of a node"
    );
    Ok(completion)
}
