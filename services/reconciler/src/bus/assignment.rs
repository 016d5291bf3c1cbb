//! `assignment`: what the node that asks is to run.

use std::sync::Arc;

use mesh_api::reconciler::AssignmentRequest;
use mesh_types::fleet::Assignment;
use mesh_types::{NodeId, Problem};

use crate::state::{State, failed};
use crate::store::kept;

pub(super) async fn get(state: Arc<State>, node: NodeId, _request: AssignmentRequest) -> Result<Assignment, Problem> {
    let assignment = kept::assignment(&state.pool, &node).await;
    assignment.map_err(failed("reading an assignment"))
}
