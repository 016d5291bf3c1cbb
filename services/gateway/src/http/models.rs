//! `/api/v1/models`: which models can be named, and whose provider is configured.

use axum::extract::State;
use mesh_api::execution::Empty;
use mesh_api::inference::{ModelList, Models};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Json, Nothing, Query, Who};
use super::problem::Failure;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Models that agents can name.
#[utoipa::path(get, path = "/api/v1/models", operation_id = "list_models", tag = "models",
    security(("credential" = ["viewer"])),
    responses((status = 200, body = ModelList)))]
async fn list(
    State(app): State<App>,
    Who(caller): Who,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<ModelList>, Failure> {
    app.call::<Models>(&caller, &Empty {}).await.map(Json)
}
