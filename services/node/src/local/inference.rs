//! `/api/v1/configure/inference/…`: who answers for the models, and which there are.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;

use super::App;
use super::problem::{Body, Failure};
use crate::models::{OfferedModels, Provider, ProviderView};

#[derive(Deserialize)]
pub(super) struct Choice {
    provider: Provider,
}

pub(super) async fn provider(State(app): State<App>) -> Json<ProviderView> {
    Json(app.models.view())
}

pub(super) async fn choose(State(app): State<App>, Body(choice): Body<Choice>) -> Result<Json<ProviderView>, Failure> {
    Ok(Json(app.models.choose(choice.provider).await?))
}

pub(super) async fn models(State(app): State<App>) -> Json<OfferedModels> {
    Json(app.models.offered().await)
}
