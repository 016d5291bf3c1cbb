//! `models`: what can be asked for.

use std::sync::Arc;

use mesh_api::inference::ModelList;
use mesh_types::Problem;

use crate::state::State;

#[expect(clippy::unused_async, reason = "the form of a handler")]
pub(super) async fn handle(state: Arc<State>) -> Result<ModelList, Problem> {
    Ok(state.providers.list())
}
