//! `/api/v1/overview`: how the work of a tenant goes, and what waits for a person.

use axum::extract::State;
use mesh_api::overview::{InvocationOverview, Overview, OverviewRange, OverviewRequest};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{FromParams, Json, Params, Query, Who};
use super::problem::Failure;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(overview))
}

/// Open work by state, what ended since in equal parts of time, cost and latency by agent, what waits for a person.
#[utoipa::path(get, path = "/api/v1/overview", operation_id = "overview", tag = "invocations",
    security(("credential" = ["viewer"])),
    params(("range" = Option<OverviewRange>, Query, description = "How far back; 1h if left out")),
    responses((status = 200, body = Overview)))]
async fn overview(
    State(app): State<App>,
    Who(caller): Who,
    Query(Asked(request)): Query<Asked>,
) -> Result<Json<Overview>, Failure> {
    app.call::<InvocationOverview>(&caller, &request).await.map(Json)
}

struct Asked(OverviewRequest);

impl FromParams for Asked {
    const NAMES: &'static [&'static str] = &["range"];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        let range = match params.take::<String>("range")?.as_deref() {
            None => OverviewRange::default(),
            Some(text) => OverviewRange::ALL
                .into_iter()
                .find(|range| range.as_str() == text)
                .ok_or_else(|| Failure::invalid("range", "range must be 1h, 24h or 7d"))?,
        };
        Ok(Self(OverviewRequest { range }))
    }
}
