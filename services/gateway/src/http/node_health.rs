//! `/api/v1/node-health`: the last health reports of the nodes that one may see.

use axum::extract::State;
use mesh_api::fleet::{NodeList, NodeListRequest, Viewer};
use mesh_api::heartbeat::{HealthHistory, NodeHealth, ObservedRequest};
use mesh_api::{Page, PageQuery};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Json, Query, Who};
use super::problem::Failure;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// The last health reports of the nodes that you may see, by id; of each the oldest first. Pages as those of the nodes.
#[utoipa::path(get, path = "/api/v1/node-health", operation_id = "list_node_health", tag = "nodes", params(PageQuery),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Page<NodeHealth>)))]
async fn list(
    State(app): State<App>,
    Who(caller): Who,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<NodeHealth>>, Failure> {
    let viewer = Viewer::of(&caller);
    let seen = app.call::<NodeList>(&caller, &NodeListRequest { viewer, page }).await?;
    let nodes: Vec<_> = seen.items.into_iter().map(|entry| entry.node_id).collect();
    let items = match nodes.is_empty() {
        true => Vec::new(),
        false => app.call::<HealthHistory>(&caller, &ObservedRequest { nodes }).await?,
    };
    Ok(Json(Page { items, next: seen.next }))
}
