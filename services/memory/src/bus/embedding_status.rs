//! `embedding-status`: which model embeds, whether it answers, and how far the caller's tenant is with it.

use mesh_api::Caller;
use mesh_api::execution::Empty;
use mesh_api::memory::{EmbeddingModel, EmbeddingReport};
use mesh_store::tenant_tx;
use mesh_types::Problem;

use super::database;
use crate::state::State;
use crate::store::reembed;

const DOING: &str = "counting vectors";

pub(super) async fn handle(state: &State, caller: Caller, _: Empty) -> Result<EmbeddingReport, Problem> {
    let tenant = &caller.tenant;
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database(DOING))?;
    let models = reembed::models(&mut tx, tenant).await.map_err(database(DOING))?;
    let embeddable = reembed::embeddable(&mut tx, tenant).await.map_err(database(DOING))?;
    tx.commit().await.map_err(database(DOING))?;
    let current = state.embedder.model();
    let key = (current.name.to_string(), current.dimensions);
    let done = models.get(&key).copied().unwrap_or(0).min(embeddable);
    let error = state.embed_health.error();
    let model = |((model, dimensions), vectors): ((String, crate::embed::Dimensions), u64)| EmbeddingModel {
        model,
        dimensions: dimensions.count() as u32,
        vectors,
    };
    Ok(EmbeddingReport {
        current: key.0,
        dimensions: current.dimensions.count() as u32,
        available: error.is_none(),
        error,
        loaded: state.embedder.is_loaded(),
        models: models.into_iter().map(model).collect(),
        waiting: embeddable - done,
        progress: if embeddable == 0 {
            1.0
        } else {
            done as f64 / embeddable as f64
        },
    })
}
