//! The route table, and the layers around it. One file per family of routes.

mod agent_node_body;
mod agent_nodes;
mod agents;
mod approvals;
mod brain;
mod channels;
pub(crate) mod credentials;
mod dead_letters;
mod edge;
mod events;
mod extract;
mod fleet;
mod invocations;
mod kept;
mod keys;
mod memories;
mod models;
pub(crate) mod nats_proxy;
mod nodes;
mod openapi;
mod origin;
pub(crate) mod problem;
mod steering;
mod tunnel;
mod ui;

use std::any::Any;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use mesh_runtime::Context;
use mesh_types::Code;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate, SizeAbove};
use tower_http::cors::CorsLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa_axum::router::OpenApiRouter;

use crate::config::Config;
use crate::state::App;
use problem::Failure;

/// Routes that answer within the request timeout.
fn prompt_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(agents::routes()) //        /api/v1/agents
        .merge(invocations::routes()) //   /api/v1/invocations
        .merge(steering::routes()) //      pause, resume, fork, signal, compare, replay
        .merge(approvals::routes()) //     /api/v1/approvals
        .merge(channels::routes()) //      /api/v1/channels
        .merge(memories::routes()) //      /api/v1/memories
        .merge(dead_letters::routes()) //  /api/v1/dead-letters
        .merge(fleet::routes()) //         /api/v1/services, /api/v1/tenants
        .merge(nodes::routes()) //         /api/v1/nodes
        .merge(brain::routes()) //         /api/v1/plan, /api/v1/passes, /api/v1/brain/state
        .merge(agent_nodes::routes()) //   /api/runtimes/v1/agent-nodes
        .merge(models::routes()) //        /api/v1/models
        .merge(keys::routes()) //          /api/v1/keys, /api/v1/join-tokens, /api/v1/audit
        .merge(kept::routes()) //          /api/messaging, /internal
}

/// Routes that wait or stream as long as they were asked to.
fn long_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(invocations::waiting_routes()) // POST /api/v1/agents/{agent}/invocations
        .merge(events::routes()) //              /api/v1/invocations/{id}/events
        .merge(kept::waiting_routes()) //        /internal/agent-runtime/test-channel, /internal/llm/proxy
        .merge(tunnel::routes()) //              /api/runtimes/v1/agent-nodes/{node_id}/tunnel
        .merge(nats_proxy::routes()) //          /api/runtimes/v1/nats
}

/// The API's description, as committed in `docs/reference/openapi.json`.
pub fn openapi() -> utoipa::openapi::OpenApi {
    openapi::finish(prompt_routes().merge(long_routes()).into_openapi())
}

pub(crate) fn router(config: &Config, context: &Context) -> Router {
    let app = App::new(config, context);
    let timeout = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, app.request_timeout);
    let (prompt, prompt_document) = prompt_routes().split_for_parts();
    let (long, long_document) = long_routes().split_for_parts();
    let mut document = prompt_document;
    document.merge(long_document);
    let document = openapi::finish(document);
    let ops = mesh_runtime::ops::router(
        context.health.clone(),
        context.metrics.clone(),
        context.service,
        env!("CARGO_PKG_VERSION"),
    );
    let large_text = DefaultPredicate::new().and(SizeAbove::new(1_024));
    Router::new()
        .merge(
            prompt
                .layer(timeout)
                .merge(long)
                .route_layer(from_fn_with_state(app.clone(), credentials::admit))
                .with_state(app.clone()),
        )
        .merge(openapi::router(&document))
        .merge(ui::router())
        .merge(ops)
        .fallback(no_route)
        // Innermost first.
        .layer(CatchPanicLayer::custom(panicked))
        .layer(
            CompressionLayer::new()
                .gzip(true)
                .quality(CompressionLevel::Fastest)
                .compress_when(large_text),
        )
        .layer(map_response(protect))
        .layer(from_fn_with_state(app.clone(), edge::guard))
        .layer(from_fn_with_state(app.clone(), edge::around))
        .layer(cors(&app))
}

async fn no_route(request: Request) -> Failure {
    Failure(problem::route_not_found(request.uri().path()))
}

fn panicked(cause: Box<dyn Any + Send + 'static>) -> Response {
    let text = cause.downcast_ref::<&str>().copied();
    let text = text
        .or_else(|| cause.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not text");
    tracing::error!(panic = text, "a handler panicked");
    Failure::new(Code::Internal, "a handler panicked").into_response()
}

/// Answers are what their type says, and no page may frame them.
async fn protect(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

fn cors(app: &App) -> CorsLayer {
    let origins: Vec<HeaderValue> = app
        .cors_origins
        .iter()
        .filter_map(|origin| origin.parse().ok())
        .collect();
    let name = HeaderName::from_static;
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            name(extract::TENANT_HEADER),
            name(credentials::KEY_HEADER),
            name("idempotency-key"),
            name("last-event-id"),
            name(edge::REQUEST_ID_HEADER),
        ])
        .expose_headers([
            header::ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
            name(edge::REQUEST_ID_HEADER),
        ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_problem_without_its_words() {
        let (response, problem) = problem::render(panicked(Box::new("the password")), "GET", "/", "r");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let problem = problem.expect("a problem");
        assert!(
            problem.is(Code::Internal) && !problem.detail.contains("password"),
            "{problem:?}"
        );
    }
}
