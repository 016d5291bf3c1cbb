//! `/api/v1/invocations/{id}/history`: what happened to an invocation besides its steps.

use axum::extract::State;
use mesh_api::history::{HistoryRequest, InvocationHistory, Moment};
use mesh_api::{Page, PageQuery};
use mesh_types::InvocationId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Json, Query, Segment, Who};
use super::problem::Failure;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(history))
}

/// Who held it, what it waited for and who ended that, who paused it: its records that are no steps, in order.
#[utoipa::path(get, path = "/api/v1/invocations/{id}/history", operation_id = "list_history", tag = "invocations",
    security(("credential" = ["viewer"])), params(("id" = InvocationId, Path), PageQuery),
    responses((status = 200, body = Page<Moment>)))]
async fn history(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<InvocationId>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<Moment>>, Failure> {
    app.call::<InvocationHistory>(&caller, &HistoryRequest { id, page })
        .await
        .map(Json)
}
