//! The endpoints of the service: one line and one file each.

mod memory_forget;
mod memory_get;
mod memory_query;
mod memory_store;
mod memory_update;
mod roads;

use std::sync::Arc;

use mesh_api::memory::{MemoryForget, MemoryGet, MemoryQuery, MemoryStore, MemoryUpdate};
use mesh_bus::{BusError, ServiceHandle};
use mesh_store::to_problem;
use mesh_types::Problem;

use crate::state::State;

pub(crate) async fn serve(state: &Arc<State>) -> Result<ServiceHandle, BusError> {
    macro_rules! handler {
        ($module:ident) => {{
            let state = Arc::clone(state);
            move |caller, request| {
                let state = Arc::clone(&state);
                async move { logged($module::handle(&state, caller, request).await) }
            }
        }};
    }
    let service = state
        .context
        .bus
        .service("memory", env!("CARGO_PKG_VERSION"))
        .concurrency(state.config.concurrency)
        .endpoint::<MemoryStore, _, _>(handler!(memory_store))
        .endpoint::<MemoryQuery, _, _>(handler!(memory_query))
        .endpoint::<MemoryGet, _, _>(handler!(memory_get))
        .endpoint::<MemoryUpdate, _, _>(handler!(memory_update))
        .endpoint::<MemoryForget, _, _>(handler!(memory_forget));
    roads::serve(service, state).start().await
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
