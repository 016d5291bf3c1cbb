//! Everything that `reconciler` answers, as one table.

mod assignment;
mod brain_state;
mod pass_list;
mod plan;

use std::sync::Arc;

use mesh_api::Caller;
use mesh_api::reconciler::{BrainState, NodeAssignment, PassList, PlanDry};
use mesh_bus::ServiceBuilder;

use crate::state::State;

pub(crate) fn serve(service: ServiceBuilder, state: &Arc<State>) -> ServiceBuilder {
    let nodes = Arc::clone(state);
    service
        .endpoint::<PlanDry, _, _>(with(state, plan::dry))
        .endpoint::<PassList, _, _>(with(state, pass_list::list))
        .endpoint::<BrainState, _, _>(with(state, brain_state::get))
        .node_endpoint::<NodeAssignment, _, _>(move |node, request| assignment::get(Arc::clone(&nodes), node, request))
}

fn with<Q, H, F>(state: &Arc<State>, handler: H) -> impl Fn(Caller, Q) -> F + Clone + Send + Sync + 'static
where
    H: Fn(Arc<State>, Caller, Q) -> F + Clone + Send + Sync + 'static,
{
    let state = Arc::clone(state);
    move |caller, request| handler(Arc::clone(&state), caller, request)
}
