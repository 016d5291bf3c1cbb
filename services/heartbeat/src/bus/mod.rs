//! The endpoints of the service: one line and one file each.

mod history;
mod observed;
mod report;

use std::sync::Arc;

use mesh_api::heartbeat::{HealthHistory, HealthReport, HeartbeatReport, Observed, ObservedAll};
use mesh_bus::{BusError, ServiceHandle};
use mesh_store::to_problem;
use mesh_types::Problem;

use crate::state::State;

pub(crate) async fn serve(state: &Arc<State>) -> Result<ServiceHandle, BusError> {
    macro_rules! handler {
        ($handle:path) => {{
            let state = Arc::clone(state);
            move |caller, request| {
                let state = Arc::clone(&state);
                async move { logged($handle(&state, &caller, request).await) }
            }
        }};
    }
    state
        .context
        .bus
        .service("heartbeat", env!("CARGO_PKG_VERSION"))
        .endpoint::<HeartbeatReport, _, _>(handler!(report::heartbeat))
        .endpoint::<HealthReport, _, _>(handler!(report::health))
        .endpoint::<Observed, _, _>(handler!(observed::some))
        .endpoint::<HealthHistory, _, _>(handler!(history::of))
        .endpoint::<ObservedAll, _, _>(handler!(observed::all))
        .start()
        .await
}

/// An error is logged here, once; what the caller did wrong is the caller's to log.
fn logged<T>(result: Result<T, Problem>) -> Result<T, Problem> {
    if let Err(problem) = &result
        && problem.status >= 500
    {
        tracing::error!(kind = problem.kind, detail = problem.detail, "a request failed");
    }
    result
}

fn database(doing: &'static str) -> impl Fn(sqlx::Error) -> Problem {
    move |error| to_problem(error, doing)
}
