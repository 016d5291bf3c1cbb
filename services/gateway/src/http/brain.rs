//! `/api/v1/plan`, `/api/v1/passes`, `/api/v1/brain/state`: what the reconciler would do, what it did and why, and the
//! state of the whole mesh.

use axum::extract::State;
use mesh_api::reconciler::{Brain, BrainRequest, BrainState, Pass, PassList, PlanDry, PlanRequest};
use mesh_api::{Page, PageQuery};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Json, Nothing, OptionalJson, Query, Who};
use super::problem::Failure;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(plan))
        .routes(routes!(passes))
        .routes(routes!(state))
}

/// What a pass would do now, with the reason of each action; nothing is applied. With `drain` as if that node were
/// drained.
#[utoipa::path(post, path = "/api/v1/plan", operation_id = "plan", tag = "fleet",
    security(("credential" = ["viewer"])),
    request_body = Option<PlanRequest>,
    responses((status = 200, body = Pass)))]
async fn plan(
    State(app): State<App>,
    Who(caller): Who,
    Query(Nothing): Query<Nothing>,
    OptionalJson(assumed): OptionalJson<PlanRequest>,
) -> Result<Json<Pass>, Failure> {
    app.call::<PlanDry>(&caller, &assumed).await.map(Json)
}

/// Passes of the reconciler, newest first: what was seen, what was done and why, and when it tries again. Passes that
/// changed nothing and say the same are one.
#[utoipa::path(get, path = "/api/v1/passes", operation_id = "list_passes", tag = "fleet", params(PageQuery),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Page<Pass>)))]
async fn passes(
    State(app): State<App>,
    Who(caller): Who,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<Pass>>, Failure> {
    app.call::<PassList>(&caller, &page).await.map(Json)
}

/// Services, nodes, agents, replicas, what differs from what should be, and the last passes.
#[utoipa::path(get, path = "/api/v1/brain/state", operation_id = "brain_state", tag = "fleet",
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Brain)))]
async fn state(
    State(app): State<App>,
    Who(caller): Who,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<Brain>, Failure> {
    app.call::<BrainState>(&caller, &BrainRequest {}).await.map(Json)
}
