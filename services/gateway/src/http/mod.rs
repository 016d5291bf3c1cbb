//! The route table, and the layers around it. One file per family of routes.

pub(crate) mod a2a;
mod admit;
mod ag_ui;
mod agent_node_body;
mod agent_nodes;
mod agents;
mod approvals;
mod audit;
mod auth;
mod brain;
mod channels;
pub(crate) mod credentials;
mod dead_letters;
mod edge;
mod events;
mod extract;
mod fleet;
mod followed;
mod history;
mod invocations;
mod kept;
mod keys;
mod knowledge;
pub(crate) mod limits;
pub(crate) mod live;
mod mcp;
mod memories;
mod models;
pub(crate) mod nats_proxy;
pub(crate) mod needs;
mod node_health;
mod nodes;
mod openai;
mod openapi;
mod origin;
mod overview;
mod peer;
pub(crate) mod problem;
pub(crate) mod shares;
mod steering;
mod tunnel;
mod ui;
mod until;
mod users;

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
use limits::Places;
pub use live::LiveConfig;
use needs::Needs;
use problem::Failure;

/// Routes that answer within the request timeout.
fn prompt_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(agents::routes()) //        /api/v1/agents
        .merge(invocations::routes()) //   /api/v1/invocations
        .merge(history::routes()) //       /api/v1/invocations/{id}/history
        .merge(overview::routes()) //      /api/v1/overview
        .merge(steering::routes()) //      pause, resume, fork, signal, compare, replay
        .merge(approvals::routes()) //     /api/v1/approvals
        .merge(channels::routes()) //      /api/v1/channels
        .merge(memories::routes()) //      /api/v1/memories
        .merge(knowledge::routes()) //     /api/v1/knowledge
        .merge(dead_letters::routes()) //  /api/v1/dead-letters
        .merge(fleet::routes()) //         /api/v1/services, /api/v1/tenants
        .merge(nodes::routes()) //         /api/v1/nodes
        .merge(node_health::routes()) //   /api/v1/node-health
        .merge(brain::routes()) //         /api/v1/plan, /api/v1/passes, /api/v1/brain/state
        .merge(agent_nodes::routes()) //   /api/runtimes/v1/agent-nodes
        .merge(models::routes()) //        /api/v1/models
        .merge(keys::routes()) //          /api/v1/keys, /api/v1/join-tokens, /api/v1/audit
        .merge(audit::routes()) //         /api/v1/audit
        .merge(auth::routes()) //          /api/v1/auth
        .merge(users::routes()) //         /api/v1/users
        .merge(kept::routes()) //          /api/messaging, /internal
        .merge(openai::routes()) //        /v1/models
        .merge(a2a::routes()) //           /.well-known/agent-card.json, /a2a/{agent}/.well-known/agent-card.json
}

/// Routes that wait or stream as long as they were asked to, or whose work has a deadline of its own.
fn long_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(invocations::waiting_routes()) // POST /api/v1/agents/{agent}/invocations
        .merge(audit::long_routes()) //          /api/v1/audit/verify
        .merge(events::routes()) //              /api/v1/invocations/{id}/events
        .merge(live::long_routes()) //           /api/v1/ws, /api/v1/events
        .merge(memories::long_routes()) //       POST /api/v1/memories/forget
        .merge(knowledge::long_routes()) //      POST /api/v1/knowledge/{base}/documents
        .merge(kept::waiting_routes()) //        /internal/agent-runtime/test-channel, /internal/llm/proxy
        .merge(tunnel::routes()) //              /api/runtimes/v1/agent-nodes/{node_id}/tunnel
        .merge(nats_proxy::routes()) //          /api/runtimes/v1/nats
        .merge(openai::long_routes()) //         /v1/chat/completions
        .merge(ag_ui::long_routes()) //          /api/v1/agents/{agent}/ag-ui
        .merge(mcp::long_routes()) //            /mcp
        .merge(a2a::long_routes()) //            /a2a/{agent}
}

/// The API's description, as committed in `docs/reference/openapi.json`.
pub fn openapi() -> utoipa::openapi::OpenApi {
    openapi::finish(prompt_routes().merge(long_routes()).into_openapi())
}

pub(crate) fn router(config: &Config, context: &Context) -> Router {
    let (prompt, prompt_document) = prompt_routes().split_for_parts();
    let (long, long_document) = long_routes().split_for_parts();
    let mut document = prompt_document;
    document.merge(long_document);
    let document = openapi::finish(document);
    let needs = Needs::of(&document).expect("a test reads every operation's needs");
    let app = App::new(config, context, needs);
    a2a::push::start(&app, context);
    let timeout = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, app.request_timeout);
    let places = || from_fn_with_state(Places::new(config.in_flight_max), limits::place);
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
                .layer(places())
                .merge(
                    long.layer(places())
                        .layer(from_fn_with_state(app.clone(), until::revoked)),
                )
                .route_layer(from_fn_with_state(app.clone(), admit::admit))
                .with_state(app.clone()),
        )
        .merge(openapi::router(&document))
        .merge(ui::router(context.ids.clone()))
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

/// Answers are what their type says, no page may frame them, and nobody keeps them: what they tell changes.
async fn protect(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let kept = headers.entry(header::CACHE_CONTROL);
    kept.or_insert(HeaderValue::from_static("no-store"));
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
            limits::RATE_LIMIT,
            limits::RATE_LIMIT_POLICY,
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
