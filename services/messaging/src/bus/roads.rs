//! `channel-history` and `message-post` as nodes ask them: in the tenant of what they run, and in its agent's name.

use std::sync::Arc;

use mesh_api::Endpoint;
use mesh_api::messaging::{AuthorKind, ChannelHistory, History, HistoryRequest, Message, MessagePost, PostRequest};
use mesh_api::road::{ByNode, Ticketed};
use mesh_bus::ServiceBuilder;
use mesh_runtime::Roads;
use mesh_types::{AgentName, NodeId, Problem};

use super::{channels, messages};
use crate::state::State;

pub(super) fn serve(service: ServiceBuilder, state: &Arc<State>) -> ServiceBuilder {
    let roads = Roads::new(&state.context);
    macro_rules! handler {
        ($handler:path) => {{
            let (state, roads) = (Arc::clone(state), Arc::clone(&roads));
            move |node, asked| $handler(Arc::clone(&state), Arc::clone(&roads), node, asked)
        }};
    }
    service
        .node_endpoint::<ByNode<ChannelHistory>, _, _>(handler!(history))
        .node_endpoint::<ByNode<MessagePost>, _, _>(handler!(post))
}

async fn history(
    state: Arc<State>,
    roads: Arc<Roads>,
    node: NodeId,
    Ticketed { ticket, request }: Ticketed<HistoryRequest>,
) -> Result<History, Problem> {
    let caller = roads.admit(&node, ChannelHistory::NAME, &ticket).await?;
    channels::history(state, caller, request).await
}

async fn post(
    state: Arc<State>,
    roads: Arc<Roads>,
    node: NodeId,
    Ticketed { ticket, request }: Ticketed<PostRequest>,
) -> Result<Message, Problem> {
    let caller = roads.admit(&node, MessagePost::NAME, &ticket).await?;
    let author = &request.author;
    let is_own = author.kind == AuthorKind::Agent && author.id.parse::<AgentName>().is_ok_and(|id| id == ticket.agent);
    roads.own(&node, MessagePost::NAME, is_own, &format!("a message of {}", author.id))?;
    messages::post(state, caller, request).await
}
