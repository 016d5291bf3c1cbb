//! `brain-state`: the whole mesh on one page, as far as the caller may see it.

use std::sync::Arc;

use mesh_api::Caller;
use mesh_api::reconciler::{Brain, BrainRequest};
use mesh_types::Problem;

use crate::brain;
use crate::state::{State, failed};
use crate::store::{leader, passes, services};

const PASSES: i64 = 5;
/// Of each of them; the list of passes has the rest.
const ACTIONS_MAX: usize = 20;
const DRIFT_MAX: usize = 100;
const PASSES_BYTES_MAX: i64 = 1024 * 1024;

pub(super) async fn get(state: Arc<State>, caller: Caller, _request: BrainRequest) -> Result<Brain, Problem> {
    let doing = "reading the state";
    let leader = leader::get(&state.pool).await.map_err(failed(doing))?;
    let services = services::all(&state.pool).await.map_err(failed(doing))?;
    let passes = passes::list(&state.pool, None, PASSES, PASSES_BYTES_MAX).await;
    let mut passes = passes.map_err(failed(doing))?;
    let view = brain::look(&state, None).await;
    let sight = match &view {
        Ok(view) => view.sight(&caller),
        Err(_) => brain::sight(&state, &caller, &passes).await,
    };
    for pass in &mut passes {
        brain::only_of(&caller.tenant, &sight, pass, ACTIONS_MAX);
    }
    let mut brain = Brain {
        at: state.context.clock.now(),
        leader: Some(leader.holder).filter(|holder| !holder.is_empty()),
        epoch: leader.epoch,
        services: services.into_iter().map(brain::service).collect(),
        nodes: Vec::new(),
        agents: Vec::new(),
        replicas: Vec::new(),
        drift: Vec::new(),
        passes,
    };
    match view {
        Ok(view) => {
            view.describe(&caller.tenant, &sight, &mut brain);
            let mut pass = view.pass();
            brain::only_of(&caller.tenant, &sight, &mut pass, DRIFT_MAX);
            brain.drift = pass.actions.into_iter().map(|action| action.sentence).collect();
        }
        // That is what one wants to see here.
        Err(problem) => brain.drift.push(problem.detail),
    }
    Ok(brain)
}
