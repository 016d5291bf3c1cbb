//! `models`: what can be asked for, as providers say it.

use std::sync::Arc;

use mesh_api::inference::ModelList;
use mesh_types::Problem;

use crate::state::State;

pub(super) async fn handle(state: Arc<State>) -> Result<ModelList, Problem> {
    let rests = |provider: &str| state.governor.availability(provider).is_err();
    Ok(state.providers.list(rests).await)
}
