//! `/api/runtimes/v1/agent-nodes`: what nodes say of themselves over HTTP, kept with the replaced API's shapes. Fields
//! that are not known are ignored; what the body means is `agent_node_body`'s.

use axum::extract::State;
use mesh_api::fleet::{
    NodeConfiguration, NodeConfigure, NodeConfigureRequest, NodeEntry, NodeRecord, NodeReportedMode,
    NodeReportedModeRequest, Viewer,
};
use mesh_api::heartbeat::{HealthReport, HealthReportRequest, HeartbeatReport, Reported};
use mesh_api::identity::{Enroll, EnrollRequest, PrincipalKind};
use mesh_api::{Page, PageQuery};
use mesh_types::fleet_policy::may_configure;
use mesh_types::{Code, NodeId};
use serde::Serialize;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::agent_node_body::{self as body, ConfigurationBody, HealthBody, HeartbeatBody, RegisterBody};
use super::extract::{Json, Nothing, Query, Segment, WhoNode};
use super::nodes::{audited, record, seen_entry, seen_page};
use super::problem::Failure;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(heartbeat))
        .routes(routes!(configuration))
        .routes(routes!(health))
        .routes(routes!(list))
        .routes(routes!(get))
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct RegisteredNode {
    agent_node: NodeRecord,
    /// What the node signs in with from now on; shown this once, and `null` where no credentials are demanded or the
    /// node came with it.
    secret: Option<String>,
    /// Where it may speak NATS, if the mesh knows.
    nats_url: Option<String>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct AgentNode {
    agent_node: NodeRecord,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ReportedNode {
    agent_node: NodeRecord,
    /// `false`: something newer is known, nothing was changed.
    taken: bool,
}

/// The record itself, and once more under the name that clients of the replaced API read.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct OneNode {
    #[serde(flatten)]
    node: NodeRecord,
    agent_node: NodeRecord,
}

/// A node joins or comes back. Without an id it gets one; a pinned id is kept as it is. It may carry its configuration.
#[utoipa::path(post, path = "/api/runtimes/v1/agent-nodes/register", operation_id = "register_agent_node", tag = "nodes",
    request_body = RegisterBody,
    security(("credential" = ["operator"]), ("credential" = ["node"]), ("credential" = ["join"])),
    responses((status = 200, body = RegisteredNode)))]
async fn register(
    State(app): State<App>,
    who: WhoNode,
    Query(Nothing): Query<Nothing>,
    Json(body): Json<Value>,
) -> Result<Json<RegisteredNode>, Failure> {
    let configuration: ConfigurationBody = body::read(&body)?;
    let body: RegisterBody = body::read(&body)?;
    let node_id = body.node_id()?;
    if let Some(node) = &node_id {
        who.check_node(&app, node).await?;
    }
    let request = EnrollRequest {
        credential: who.credential.clone(),
        tenant: Some(who.caller.tenant.clone()),
        node_id,
        name: body.name,
        mode: body.mode,
        labels: body.labels,
        capabilities: body.capabilities.map(body::Capabilities::names),
        slots: body.slots,
    };
    let enrolled = app.call::<Enroll>(&who.caller, &request).await?;
    let viewer = Viewer {
        owner: Some(enrolled.node.owner.clone()),
    };
    let entry = configured(&app, &who, viewer, enrolled.node, configuration).await?;
    Ok(Json(RegisteredNode {
        agent_node: record(&app, &who.caller, entry).await?,
        secret: enrolled.secret,
        nats_url: enrolled.nats_url,
    }))
}

/// A node is alive. What it leaves out is as it was; a mode that differs from the registered one replaces it. It may
/// carry its configuration.
#[utoipa::path(post, path = "/api/runtimes/v1/agent-nodes/heartbeat", operation_id = "agent_node_heartbeat", tag = "nodes",
    request_body = HeartbeatBody,
    security(("credential" = ["operator"]), ("credential" = ["node"])),
    responses((status = 200, body = ReportedNode)))]
async fn heartbeat(
    State(app): State<App>,
    who: WhoNode,
    Query(Nothing): Query<Nothing>,
    Json(body): Json<Value>,
) -> Result<Json<ReportedNode>, Failure> {
    let configuration: ConfigurationBody = body::read(&body)?;
    let body: HeartbeatBody = body::read(&body)?;
    let node = named(&who, body.node_id()?)?;
    let entry = own_entry(&app, &who, "node.heartbeat", &node).await?;
    let heartbeat = body.complete(&entry, app.clock.now());
    let (mode, incarnation, seq) = (heartbeat.mode, heartbeat.incarnation, heartbeat.seq);
    let Reported { taken } = app.call::<HeartbeatReport>(&who.caller, &heartbeat).await?;
    let mut entry = entry;
    if taken {
        entry = configured(&app, &who, who.viewer(), entry, configuration.without_mode()).await?;
    }
    let report = NodeReportedModeRequest {
        node_id: node,
        mode,
        incarnation,
        seq,
    };
    reported(&app, &who, entry, report, taken).await
}

/// A node's view of its machine: at its start, from time to time, and when its mode has changed.
#[utoipa::path(post, path = "/api/runtimes/v1/agent-nodes/health", operation_id = "agent_node_health", tag = "nodes",
    request_body = HealthBody,
    security(("credential" = ["operator"]), ("credential" = ["node"])),
    responses((status = 200, body = ReportedNode)))]
async fn health(
    State(app): State<App>,
    who: WhoNode,
    Query(Nothing): Query<Nothing>,
    Json(body): Json<Value>,
) -> Result<Json<ReportedNode>, Failure> {
    let body: HealthBody = body::read(&body)?;
    let node = named(&who, body.node_id()?)?;
    let entry = own_entry(&app, &who, "node.health", &node).await?;
    let now = app.clock.now();
    let (incarnation, seq) = body.order(now);
    let health = body.complete(&entry, now)?;
    let report = NodeReportedModeRequest {
        node_id: node.clone(),
        mode: health.mode,
        incarnation,
        seq,
    };
    let request = HealthReportRequest { node_id: node, health };
    let Reported { taken } = app.call::<HealthReport>(&who.caller, &request).await?;
    reported(&app, &who, entry, report, taken).await
}

/// Mode, billable account and sharing of a node; what is left out stays.
#[utoipa::path(post, path = "/api/runtimes/v1/agent-nodes/configuration", operation_id = "configure_agent_node", tag = "nodes",
    request_body = ConfigurationBody,
    security(("credential" = ["operator"]), ("credential" = ["node"])),
    responses((status = 200, body = AgentNode)))]
async fn configuration(
    State(app): State<App>,
    who: WhoNode,
    Query(Nothing): Query<Nothing>,
    Json(body): Json<Value>,
) -> Result<Json<AgentNode>, Failure> {
    let body: ConfigurationBody = body::read(&body)?;
    let node = named(&who, body.node_id()?)?;
    let entry = own_entry(&app, &who, "node.configure", &node).await?;
    let entry = configured(&app, &who, who.viewer(), entry, body).await?;
    let agent_node = record(&app, &who.caller, entry).await?;
    Ok(Json(AgentNode { agent_node }))
}

/// The nodes that you may see, by id: your own, and those that others share with you.
#[utoipa::path(get, path = "/api/runtimes/v1/agent-nodes", operation_id = "list_agent_nodes", tag = "nodes", params(PageQuery),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Page<NodeRecord>)))]
async fn list(
    State(app): State<App>,
    who: WhoNode,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<NodeRecord>>, Failure> {
    seen_page(&app, &who.caller, who.viewer(), page).await.map(Json)
}

/// One node, with its latest health.
#[utoipa::path(get, path = "/api/runtimes/v1/agent-nodes/{node_id}", operation_id = "get_agent_node", tag = "nodes",
    params(("node_id" = NodeId, Path)),
    security(("credential" = ["viewer"]), ("credential" = ["node"])),
    responses((status = 200, body = OneNode)))]
async fn get(
    State(app): State<App>,
    who: WhoNode,
    Segment(node): Segment<NodeId>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<OneNode>, Failure> {
    who.check_node(&app, &node).await?;
    let entry = seen_entry(&app, &who.caller, who.viewer(), node).await?;
    let node = record(&app, &who.caller, entry).await?;
    Ok(Json(OneNode {
        agent_node: node.clone(),
        node,
    }))
}

/// The node that the body names, or the one whose secret it came with.
fn named(who: &WhoNode, given: Option<NodeId>) -> Result<NodeId, Failure> {
    let itself = || {
        let principal = who.principal.as_ref()?;
        (principal.kind == PrincipalKind::Node).then(|| principal.id.parse().ok())?
    };
    given.or_else(itself).ok_or_else(|| {
        Failure::invalid("node_id", "the body names no node").next("send the node_id that register answered")
    })
}

/// The caller's own node. Of any other one he learns nothing, and the audit has the try.
async fn own_entry(app: &App, who: &WhoNode, action: &str, node: &NodeId) -> Result<NodeEntry, Failure> {
    who.check_node(app, node).await?;
    let viewer = who.viewer();
    let found = seen_entry(app, &who.caller, viewer.clone(), node.clone()).await;
    let own = match found {
        Ok(entry) if may_configure(viewer.in_tenant(&who.caller.tenant), entry.facts()) => Ok(entry),
        Err(Failure(problem)) if !problem.is(Code::NodeNotFound) || viewer.owner.is_none() => Err(Failure(problem)),
        _ => Err(Failure::new(Code::Forbidden, format!("`{node}` is no node of yours")).next("a node registers first")),
    };
    audited(app, &who.caller, action, node, own).await
}

/// Takes over what is given, if it says anything new.
async fn configured(
    app: &App,
    who: &WhoNode,
    viewer: Viewer,
    entry: NodeEntry,
    given: ConfigurationBody,
) -> Result<NodeEntry, Failure> {
    let labels = given.labels.clone();
    let configuration: NodeConfiguration = given.over(&entry.configuration);
    if configuration == entry.configuration && labels.as_ref().is_none_or(|labels| *labels == entry.labels) {
        return Ok(entry);
    }
    let request = NodeConfigureRequest {
        viewer,
        node_id: entry.node_id.clone(),
        configuration,
        labels,
    };
    let configured = app.call::<NodeConfigure>(&who.caller, &request).await;
    audited(app, &who.caller, "node.configure", &entry.node_id, configured).await
}

/// A reported mode replaces the registered one; the answer shows the node as it is then.
async fn reported(
    app: &App,
    who: &WhoNode,
    mut entry: NodeEntry,
    report: NodeReportedModeRequest,
    taken: bool,
) -> Result<Json<ReportedNode>, Failure> {
    if taken && report.mode != entry.configuration.mode {
        entry = app.call::<NodeReportedMode>(&who.caller, &report).await?;
    }
    let agent_node = record(app, &who.caller, entry).await?;
    Ok(Json(ReportedNode { agent_node, taken }))
}
