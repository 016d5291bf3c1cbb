//! The endpoints of the service: one line and one file each.

mod embedding_status;
mod knowledge_add;
mod knowledge_delete;
mod knowledge_get;
mod knowledge_list;
mod knowledge_search;
mod knowledge_text;
mod memory_batch;
mod memory_consolidate;
pub(crate) mod memory_erase;
mod memory_forget;
mod memory_get;
mod memory_history;
mod memory_list;
mod memory_query;
mod memory_store;
mod memory_update;
mod roads;

use std::sync::Arc;

use mesh_api::knowledge::{KnowledgeAdd, KnowledgeDelete, KnowledgeGet, KnowledgeList, KnowledgeSearch, KnowledgeText};
use mesh_api::memory::{
    EmbeddingStatus, MemoryBatch, MemoryConsolidate, MemoryErase, MemoryForget, MemoryGet, MemoryHistory, MemoryList,
    MemoryQuery, MemoryStore, MemoryUpdate,
};
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
        .endpoint::<MemoryBatch, _, _>(handler!(memory_batch))
        .endpoint::<MemoryConsolidate, _, _>(handler!(memory_consolidate))
        .endpoint::<MemoryUpdate, _, _>(handler!(memory_update))
        .endpoint::<MemoryList, _, _>(handler!(memory_list))
        .endpoint::<MemoryHistory, _, _>(handler!(memory_history))
        .endpoint::<MemoryErase, _, _>(handler!(memory_erase))
        .endpoint::<EmbeddingStatus, _, _>(handler!(embedding_status))
        .endpoint::<MemoryForget, _, _>(handler!(memory_forget))
        .endpoint::<KnowledgeAdd, _, _>(handler!(knowledge_add))
        .endpoint::<KnowledgeGet, _, _>(handler!(knowledge_get))
        .endpoint::<KnowledgeList, _, _>(handler!(knowledge_list))
        .endpoint::<KnowledgeText, _, _>(handler!(knowledge_text))
        .endpoint::<KnowledgeDelete, _, _>(handler!(knowledge_delete))
        .endpoint::<KnowledgeSearch, _, _>(handler!(knowledge_search));
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
