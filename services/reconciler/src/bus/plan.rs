//! `plan`: a pass that is not applied.

use std::sync::Arc;

use mesh_api::Caller;
use mesh_api::reconciler::{Pass, PlanRequest};
use mesh_types::Problem;

use crate::brain;
use crate::state::State;

/// Actions that one answer lists; the rest is counted.
const LISTED_MAX: usize = 2_000;

pub(super) async fn dry(state: Arc<State>, caller: Caller, _request: PlanRequest) -> Result<Pass, Problem> {
    let started = state.context.clock.monotonic();
    let view = brain::look(&state).await?;
    let mut pass = view.pass();
    brain::only_of(&caller.tenant, &view.sight(&caller), &mut pass, LISTED_MAX);
    let took = state.context.clock.monotonic().saturating_sub(started);
    pass.took_ms = took.as_secs_f64() * 1e3;
    Ok(pass)
}
