//! `/mcp`: the mesh as a server of the Model Context Protocol, by its official SDK. Each published agent is a tool;
//! memories and documents are resources. There are no sessions: every request stands for itself, so any process of the
//! gateway answers it, before and after a restart.

mod resources;
mod server;
mod tools;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::Who;
use super::origin;
use super::problem::Failure;
use crate::state::App;
use server::Server;

pub(super) fn long_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(call, listen, close))
}

/// The Model Context Protocol over streamable HTTP: a JSON-RPC message of a client, answered as JSON or as server-sent
/// events. Tools are the published agents, resources are memories and documents of knowledge.
#[utoipa::path(post, path = "/mcp", operation_id = "mcp_call", tag = "mcp", request_body = Object,
    security(("credential" = ["service"])),
    responses((status = 200, content((Object = "application/json"), (String = "text/event-stream"))),
        (status = 202, description = "a notification, taken"),
        (status = 406, description = "the client must take JSON and events")))]
async fn call(State(app): State<App>, who: Who, request: Request) -> Result<Response, Failure> {
    serve(app, who, request).await
}

/// Streams of the server's own messages exist within sessions only, which this server has none of: 405.
#[utoipa::path(get, path = "/mcp", operation_id = "mcp_listen", tag = "mcp",
    security(("credential" = ["service"])),
    responses((status = 405, description = "there are no sessions")))]
async fn listen(State(app): State<App>, who: Who, request: Request) -> Result<Response, Failure> {
    serve(app, who, request).await
}

/// There are no sessions to end: 405.
#[utoipa::path(delete, path = "/mcp", operation_id = "mcp_close", tag = "mcp",
    security(("credential" = ["service"])),
    responses((status = 405, description = "there are no sessions")))]
async fn close(State(app): State<App>, who: Who, request: Request) -> Result<Response, Failure> {
    serve(app, who, request).await
}

async fn serve(app: App, Who(caller): Who, request: Request) -> Result<Response, Failure> {
    origin::check(&app, request.headers())?;
    // `Host` was checked by the edge's guard, by its own list.
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .disable_allowed_hosts()
        .with_max_request_body_bytes(app.body_bytes_max)
        .with_cancellation_token(app.shutdown.clone());
    let server = Server::new(app, caller);
    let service = StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::new(NeverSessionManager::default()),
        config,
    );
    Ok(service.handle(request).await.map(Body::new))
}
