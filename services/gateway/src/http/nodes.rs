//! `/api/v1/nodes`: the fleet as the one who asks may see it. A node's record is what is registered and what is seen.

use std::collections::HashMap;

use axum::extract::State;
use mesh_api::fleet::{
    NodeDrain, NodeDrainRequest, NodeEntry, NodeForget, NodeGet, NodeGetRequest, NodeList, NodeListRequest, NodeRecord,
    NodeStatus, Viewer,
};
use mesh_api::heartbeat::{Observed, ObservedNode, ObservedRequest};
use mesh_api::{Caller, Page, PageQuery};
use mesh_types::{Code, NodeId};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::credentials::note_refused;
use super::extract::{Json, Nothing, OptionalJson, Query, Segment, Who};
use super::problem::Failure;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get, forget))
        .routes(routes!(drain))
}

/// The nodes that you may see, by id: your own, and those that others share with you.
#[utoipa::path(get, path = "/api/v1/nodes", operation_id = "list_nodes", tag = "nodes", params(PageQuery),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Page<NodeRecord>)))]
async fn list(
    State(app): State<App>,
    Who(caller): Who,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<NodeRecord>>, Failure> {
    seen_page(&app, &caller, Viewer::of(&caller), page).await.map(Json)
}

/// One node, with its latest health and what it runs.
#[utoipa::path(get, path = "/api/v1/nodes/{node}", operation_id = "get_node", tag = "nodes", params(("node" = NodeId, Path)),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = NodeRecord)))]
async fn get(
    State(app): State<App>,
    Who(caller): Who,
    Segment(node): Segment<NodeId>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<NodeRecord>, Failure> {
    let entry = seen_entry(&app, &caller, Viewer::of(&caller), node).await?;
    record(&app, &caller, entry).await.map(Json)
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Drain {
    /// `false` takes the drain back.
    #[serde(default = "yes")]
    drained: bool,
}

impl Default for Drain {
    fn default() -> Self {
        Self { drained: yes() }
    }
}

fn yes() -> bool {
    true
}

/// Moves everything off a node, and places nothing there until the drain is taken back.
#[utoipa::path(post, path = "/api/v1/nodes/{node}/drain", operation_id = "drain_node", tag = "nodes", params(("node" = NodeId, Path)),
    request_body = Option<Drain>,
    security(("credential" = ["operator"])),
    responses((status = 200, body = NodeRecord)))]
async fn drain(
    State(app): State<App>,
    Who(caller): Who,
    Segment(node): Segment<NodeId>,
    Query(Nothing): Query<Nothing>,
    OptionalJson(Drain { drained }): OptionalJson<Drain>,
) -> Result<Json<NodeRecord>, Failure> {
    let request = NodeDrainRequest {
        viewer: Viewer::of(&caller),
        node_id: node.clone(),
        drained,
    };
    let drained = app.call::<NodeDrain>(&caller, &request).await;
    let entry = audited(&app, &caller, "node.drain", &node, drained).await?;
    record(&app, &caller, entry).await.map(Json)
}

/// Forgets a node: its id is free again, and what it ran is placed elsewhere.
#[utoipa::path(delete, path = "/api/v1/nodes/{node}", operation_id = "forget_node", tag = "nodes", params(("node" = NodeId, Path)),
    security(("credential" = ["operator"])),
    responses((status = 200, body = NodeEntry)))]
async fn forget(
    State(app): State<App>,
    Who(caller): Who,
    Segment(node): Segment<NodeId>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<NodeEntry>, Failure> {
    let request = NodeGetRequest {
        viewer: Viewer::of(&caller),
        node_id: node.clone(),
    };
    let forgotten = app.call::<NodeForget>(&caller, &request).await;
    audited(&app, &caller, "node.forget", &node, forgotten).await.map(Json)
}

/// What `viewer` sees, as records.
pub(super) async fn seen_page(
    app: &App,
    caller: &Caller,
    viewer: Viewer,
    page: PageQuery,
) -> Result<Page<NodeRecord>, Failure> {
    let page = app.call::<NodeList>(caller, &NodeListRequest { viewer, page }).await?;
    Ok(Page {
        items: records(app, caller, page.items).await?,
        next: page.next,
    })
}

pub(super) async fn seen_entry(
    app: &App,
    caller: &Caller,
    viewer: Viewer,
    node_id: NodeId,
) -> Result<NodeEntry, Failure> {
    app.call::<NodeGet>(caller, &NodeGetRequest { viewer, node_id }).await
}

/// A change of somebody else's node is refused, and a fact of the audit.
pub(super) async fn audited<T>(
    app: &App,
    caller: &Caller,
    action: &str,
    node: &NodeId,
    result: Result<T, Failure>,
) -> Result<T, Failure> {
    if let Err(Failure(problem)) = &result
        && problem.is(Code::Forbidden)
    {
        note_refused(app, caller, action, node.as_str(), &problem.detail).await;
    }
    result
}

pub(super) async fn record(app: &App, caller: &Caller, entry: NodeEntry) -> Result<NodeRecord, Failure> {
    let mut records = records(app, caller, vec![entry]).await?;
    records
        .pop()
        .ok_or_else(|| Failure::new(Code::Internal, "a node has no record"))
}

/// Registered and seen together. Without what is seen there is no record: a status would be made up.
async fn records(app: &App, caller: &Caller, entries: Vec<NodeEntry>) -> Result<Vec<NodeRecord>, Failure> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let nodes = entries.iter().map(|entry| entry.node_id.clone()).collect();
    let observed = app.call::<Observed>(caller, &ObservedRequest { nodes }).await?;
    let mut observed: HashMap<NodeId, ObservedNode> =
        observed.into_iter().map(|node| (node.node_id.clone(), node)).collect();
    let together = |entry: NodeEntry| {
        let seen = observed.remove(&entry.node_id);
        joined(entry, seen)
    };
    Ok(entries.into_iter().map(together).collect())
}

fn joined(entry: NodeEntry, seen: Option<ObservedNode>) -> NodeRecord {
    let status = match &seen {
        None => NodeStatus::Registered,
        Some(node) if node.alive => NodeStatus::Online,
        Some(_) => NodeStatus::Offline,
    };
    let (last_seen_at, last_health_at, heartbeat, health) = match seen {
        None => (None, None, None, None),
        Some(node) => (
            Some(node.last_seen_at),
            node.last_health_at,
            node.heartbeat,
            node.health,
        ),
    };
    // What is gone runs nothing, whatever it said last.
    let heartbeat = heartbeat.filter(|_| status == NodeStatus::Online);
    NodeRecord {
        entry,
        status,
        last_seen_at,
        last_health_at,
        health,
        running: heartbeat.as_ref().map_or(0, |heartbeat| heartbeat.running),
        replicas: heartbeat.map(|heartbeat| heartbeat.replicas).unwrap_or_default(),
    }
}
