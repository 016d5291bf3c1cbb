//! `credential-verify`.

use std::sync::Arc;

use mesh_api::Caller;
use mesh_api::identity::{Principal, VerifyRequest};
use mesh_types::{NodeId, Problem};

use crate::state::State;
use crate::verify;

pub(super) async fn credential(
    state: Arc<State>,
    caller: Caller,
    request: VerifyRequest,
) -> Result<Principal, Problem> {
    let request_id = caller.request_id.map(|id| id.to_string());
    verified(&state, "anonymous", request_id, &request).await
}

/// As a node asks, for whoever signs in at its page.
pub(super) async fn at_node(state: Arc<State>, node: NodeId, request: VerifyRequest) -> Result<Principal, Problem> {
    verified(&state, &format!("node:{node}"), None, &request).await
}

async fn verified(
    state: &State,
    actor: &str,
    request_id: Option<String>,
    request: &VerifyRequest,
) -> Result<Principal, Problem> {
    match verify::verify(state, &request.credential).await? {
        Ok(verified) => Ok(verified.principal),
        Err(refused) => {
            let mut entry = refused.entry(actor, "credential.verify");
            entry.request_id = request_id;
            state.note_refused(&refused.tenant, entry).await;
            Err(refused.problem())
        }
    }
}
