//! Looks for work that waits for agents that scale by it, so that nobody waits for the next pass. Only while there are
//! such agents, and only who leads.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use mesh_api::execution::{Demand, DemandRequest, ExecutionDemand};
use mesh_types::Tenant;

use crate::state::State;

pub(super) async fn run(state: Arc<State>) {
    let pause = Duration::from_millis(state.config.demand_ms);
    let caller = state.context.caller(Tenant::default());
    loop {
        tokio::select! {
            () = state.context.shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let is_asked = state.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if !is_asked || state.leads().is_none() {
            continue;
        }
        let request = DemandRequest::default();
        let asked = state.context.bus.call::<ExecutionDemand>(&caller, &request);
        let demand = tokio::select! {
            () = state.context.shutdown.cancelled() => return,
            demand = asked => demand,
        };
        if demand.is_ok_and(|demand| is_news(&state, &demand)) {
            state.ring();
        }
    }
}

/// Whether more waits than the last pass knew of, by as much as may make a difference.
fn is_news(state: &State, demand: &Demand) -> bool {
    let waiting = state.waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(known) = waiting.as_ref() else {
        return false;
    };
    demand.agents.iter().any(|agent| {
        let before = known.get(&(agent.tenant.clone(), agent.agent.clone()));
        before.is_some_and(|before| agent.waiting > before.saturating_mul(2))
    })
}
