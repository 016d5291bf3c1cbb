//! `token`: what a node streams, passed on to whoever reads the invocation. Every process hears it and the owner of the
//! shard passes it on, so that the order stays. Nobody waits for an answer: the step's record holds all of it.

use std::sync::Arc;

use mesh_api::node::{MESSAGE_BYTES_MAX, TOKEN, TokenBatch};
use mesh_bus::RawRequest;
use mesh_types::{Code, Problem, Subject};

use crate::directory::Owner;
use crate::state::State;

/// Without waiting, or what came later would pass.
pub(super) fn hear(state: &State, request: &RawRequest) {
    let Ok(Subject::NodeService { node, .. }) = request.subject.parse() else {
        return;
    };
    if request.payload.len() > MESSAGE_BYTES_MAX {
        return;
    }
    let Ok(TokenBatch { ticket, chunks }) = serde_json::from_slice(&request.payload) else {
        tracing::debug!(%node, "tokens of a node cannot be read");
        return;
    };
    if state.directory.owner(ticket.shard) != Owner::Here {
        return;
    }
    match state.nodes.roads.verdict(&node, &ticket) {
        None => return,
        Some(true) => {}
        Some(false) => {
            let problem = Problem::new(Code::Forbidden, "tokens under a ticket that was not given to this node");
            state.nodes.roads.refuse(&node, TOKEN, problem);
            return;
        }
    }
    // Somebody else streams it now.
    if !state.nodes.is_newest(ticket.invocation, ticket.epoch) {
        return;
    }
    let subject = Subject::Tokens {
        tenant: ticket.tenant,
        invocation: ticket.invocation,
    };
    for chunk in chunks.into_iter().filter(|chunk| chunk.epoch == ticket.epoch) {
        // Full: dropped, as the record supersedes it.
        if let Some(tokens) = state.tokens.upgrade() {
            let _ = tokens.try_send((subject.clone(), chunk));
        }
    }
}

pub(super) fn handler(
    state: &Arc<State>,
) -> impl Fn(RawRequest) -> std::future::Ready<()> + Send + Sync + 'static + use<> {
    let state = Arc::clone(state);
    move |request| {
        hear(&state, &request);
        std::future::ready(())
    }
}
