//! A2A 1.0: every published agent as an agent of that protocol, by the types of its official SDK. A task is an
//! invocation, a context is a session; tasks live in the journal, push configurations in a bucket (see `push`).

mod card;
mod fold;
mod message;
pub(crate) mod push;
mod rpc;
mod task;

use a2a::{AgentCard, JsonRpcId, JsonRpcResponse, SVC_PARAM_VERSION};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use mesh_api::registry::{AgentGet, AgentRequest};
use mesh_types::{AgentName, Code};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Json, Nothing, Query, Segment, Who, header_text};
use super::followed::published;
use super::problem::Failure;
use crate::state::App;
use card::Place;
use rpc::{Asked, Refused};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(mesh_card))
        .routes(routes!(agent_card))
}

pub(super) fn long_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(call))
}

/// The mesh as an A2A agent card: each published agent is a skill and an interface of its own.
#[utoipa::path(get, path = "/.well-known/agent-card.json", operation_id = "a2a_mesh_card", tag = "a2a",
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Object)))]
async fn mesh_card(
    State(app): State<App>,
    Who(caller): Who,
    Query(Nothing): Query<Nothing>,
    headers: HeaderMap,
) -> Result<Json<AgentCard>, Failure> {
    let place = Place::of(&app, &headers)?;
    let agents = published(&app, &caller).await?;
    Ok(Json(card::of_mesh(&agents, &place)))
}

/// The A2A agent card of one published agent.
#[utoipa::path(get, path = "/a2a/{agent}/.well-known/agent-card.json", operation_id = "a2a_agent_card", tag = "a2a",
    params(("agent" = AgentName, Path)),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Object)))]
async fn agent_card(
    State(app): State<App>,
    Who(caller): Who,
    Segment(agent): Segment<AgentName>,
    Query(Nothing): Query<Nothing>,
    headers: HeaderMap,
) -> Result<Json<AgentCard>, Failure> {
    let place = Place::of(&app, &headers)?;
    let request = AgentRequest { agent: agent.clone() };
    let view = app.call::<AgentGet>(&caller, &request).await?;
    let card = card::of_agent(&view, &place);
    card.map(Json)
        .ok_or_else(|| Failure::new(Code::AgentNotFound, format!("the agent `{agent}` is not published")))
}

/// A JSON-RPC call of A2A 1.0: `SendMessage`, `SendStreamingMessage`, `GetTask`, `ListTasks`, `CancelTask`,
/// `SubscribeToTask` and the four of push notification configurations. Streams are server-sent events.
#[utoipa::path(post, path = "/a2a/{agent}", operation_id = "a2a_call", tag = "a2a", params(("agent" = AgentName, Path),
        ("A2A-Version" = Option<String>, Header, description = "1.0")), request_body = Object,
    security(("credential" = ["service"])),
    responses((status = 200, content((Object = "application/json"), (String = "text/event-stream")))))]
async fn call(
    State(app): State<App>,
    Who(caller): Who,
    Segment(agent): Segment<AgentName>,
    Query(Nothing): Query<Nothing>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<Response, Failure> {
    let version = header_text(&headers, SVC_PARAM_VERSION)?.unwrap_or(a2a::VERSION);
    let (id, read) = rpc::read(body, version);
    let asked = Asked {
        app,
        caller,
        agent,
        id: id.clone(),
    };
    let answered = match read {
        Ok((method, params)) => asked.answer(&method, params).await,
        Err(refused) => Err(refused),
    };
    Ok(answered.unwrap_or_else(|refused| said(&refused_as(id, refused))))
}

fn refused_as(id: JsonRpcId, Refused(error): Refused) -> JsonRpcResponse {
    JsonRpcResponse::error(id, error.to_jsonrpc_error())
}

fn said(response: &JsonRpcResponse) -> Response {
    use axum::response::IntoResponse;
    axum::Json(response).into_response()
}
