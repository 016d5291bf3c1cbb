//! `plan`: a pass that is not applied.

use std::sync::Arc;

use mesh_api::Caller;
use mesh_api::reconciler::{Pass, PlanRequest};
use mesh_types::{Code, Problem};

use crate::brain;
use crate::state::State;

/// Actions that one answer lists; the rest is counted.
const LISTED_MAX: usize = 2_000;

pub(super) async fn dry(state: Arc<State>, caller: Caller, request: PlanRequest) -> Result<Pass, Problem> {
    let started = state.context.clock.monotonic();
    let view = brain::look(&state, request.drain.as_ref()).await?;
    let sight = view.sight(&caller);
    if let Some(node) = request.drain.filter(|node| !sight.sees(node)) {
        let problem = Problem::new(Code::NodeNotFound, format!("there is no node `{node}`"));
        return Err(problem
            .field("drain")
            .next("`mesh nodes` lists the nodes that you may see"));
    }
    let mut pass = view.pass();
    brain::only_of(&caller.tenant, &sight, &mut pass, LISTED_MAX);
    let took = state.context.clock.monotonic().saturating_sub(started);
    pass.took_ms = took.as_secs_f64() * 1e3;
    Ok(pass)
}
