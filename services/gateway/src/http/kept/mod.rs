//! Routes kept from the systems this one replaces, with their shapes. They ignore fields that they do not know.

mod llm;
mod memory;

use axum::extract::State;
use axum::http::StatusCode;
use mesh_api::execution::{Invocation, RouterRequest, State as InvocationState};
use mesh_api::messaging::{Author, AuthorKind, ChannelHistory, HistoryRequest, Message, MessagePost, PostRequest};
use mesh_types::{AgentName, ChannelId, Code, Problem, Tenant};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Json, Params, Segment, Who};
use super::invocations::accept;
use super::problem::Failure;
use crate::state::App;

/// The replaced systems' clients gave up after less.
const PROCESS_WAIT_SECONDS: u32 = 120;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(channel_messages))
        .routes(routes!(post_to_channel))
        .merge(memory::routes())
}

/// They wait for an agent or a model, longer than the request timeout.
pub(super) fn waiting_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(test_channel)).merge(llm::routes())
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Processed {
    #[schema(example = "processed")]
    status: &'static str,
    #[schema(example = "agent:sofia")]
    agent_id: String,
}

/// Invokes an agent as `router.invoke.agent` does, and answers after its reply is posted.
#[utoipa::path(post, path = "/internal/agent-runtime/test-channel", operation_id = "kept_test_channel", tag = "kept", request_body = RouterRequest,
    security(("credential" = ["service"])),
    responses((status = 200, body = Processed)))]
async fn test_channel(State(app): State<App>, who: Who, Json(body): Json<Value>) -> Result<Json<Processed>, Failure> {
    let request: RouterRequest = lenient(body, &ROUTER_FIELDS)?;
    let names_tenant = request.payload.get("microdao_id").is_some_and(|name| !name.is_null());
    let (tenant, agent, request) = request.split()?;
    let caller = who.of_tenant(&app, names_tenant.then_some(tenant)).await?;
    let invocation = accept(&app, &caller, agent, request, PROCESS_WAIT_SECONDS).await?;
    processed(invocation).map(Json)
}

fn processed(invocation: Invocation) -> Result<Processed, Failure> {
    let Invocation {
        id,
        agent,
        state,
        error,
        ..
    } = invocation;
    let see = format!("GET /api/v1/invocations/{id}");
    match state {
        InvocationState::Completed => Ok(Processed {
            status: "processed",
            agent_id: format!("agent:{agent}"),
        }),
        state if state.is_ended() => {
            let failed = || Problem::new(Code::InvocationFailed, format!("{id} ended {}", state.as_str()));
            let problem = error.unwrap_or_else(failed);
            Err(Failure(if problem.next.is_none() {
                problem.next(see)
            } else {
                problem
            }))
        }
        state => Err(Failure::new(
            Code::Timeout,
            format!("{id} is {} after {PROCESS_WAIT_SECONDS} s", state.as_str()),
        )
        .next(&see)),
    }
}

/// A message with the replaced API's names beside ours.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct KeptMessage {
    #[serde(flatten)]
    message: Message,
    sender_id: String,
    /// `human`, `agent` or `system`.
    sender_type: &'static str,
    body: String,
    content_preview: String,
}

/// The newest messages, newest first, as a bare list.
#[utoipa::path(get, path = "/api/messaging/channels/{channel_id}/messages", operation_id = "kept_channel_messages", tag = "kept",
    params(("channel_id" = ChannelId, Path), ("limit" = Option<u32>, Query, minimum = 1, maximum = 500),
        ("microdao_id" = Option<Tenant>, Query, description = "Names the tenant where the header Mesh-Tenant does not")),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Vec<KeptMessage>)))]
async fn channel_messages(
    State(app): State<App>,
    who: Who,
    Segment(channel): Segment<ChannelId>,
    parts: axum::http::request::Parts,
) -> Result<Json<Vec<KeptMessage>>, Failure> {
    let mut params = Params::of(&parts)?;
    let limit = params
        .take_number("limit", 1, mesh_api::page::LIMIT_MAX)?
        .unwrap_or(mesh_api::page::LIMIT_DEFAULT);
    let caller = who.of_tenant(&app, params.take("microdao_id")?).await?;
    let history = app
        .call::<ChannelHistory>(
            &caller,
            &HistoryRequest {
                channel,
                limit,
                before: None,
            },
        )
        .await?;
    Ok(Json(history.items.into_iter().rev().map(kept_message).collect()))
}

fn kept_message(message: Message) -> KeptMessage {
    let (sender_id, sender_type) = match message.author.kind {
        AuthorKind::User => (message.author.id.clone(), "human"),
        AuthorKind::Agent => (format!("agent:{}", message.author.id), "agent"),
        AuthorKind::System => (message.author.id.clone(), "system"),
    };
    let content_preview = message.text.chars().take(200).collect();
    KeptMessage {
        body: message.text.clone(),
        sender_id,
        sender_type,
        content_preview,
        message,
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
struct PostToChannel {
    channel_id: ChannelId,
    text: String,
    #[serde(default)]
    microdao_id: Option<Tenant>,
}

/// Posts to a channel as the agent.
#[utoipa::path(post, path = "/internal/agents/{agent_id}/post-to-channel", operation_id = "kept_post_to_channel", tag = "kept",
    params(("agent_id" = AgentName, Path)), request_body = PostToChannel,
    security(("credential" = ["service"])),
    responses((status = 201, body = KeptMessage)))]
async fn post_to_channel(
    State(app): State<App>,
    who: Who,
    Segment(agent): Segment<AgentName>,
    Json(body): Json<PostToChannel>,
) -> Result<(StatusCode, Json<KeptMessage>), Failure> {
    let PostToChannel {
        channel_id: channel,
        text,
        microdao_id,
    } = body;
    let caller = who.of_tenant(&app, microdao_id).await?;
    let author = Author {
        kind: AuthorKind::Agent,
        id: agent.to_string(),
    };
    let request = PostRequest {
        channel,
        id: None,
        author,
        text,
        content: None,
        metadata: Map::new(),
    };
    let message = app.call::<MessagePost>(&caller, &request).await?;
    Ok((StatusCode::CREATED, Json(kept_message(message))))
}

const ROUTER_FIELDS: [&str; 13] = [
    "agent_id",
    "intermediate_steps",
    "payload",
    "entrypoint",
    "invocation_id",
    "idempotency_key",
    "session",
    "priority",
    "delay_ms",
    "deadline_ms",
    "context",
    "metadata",
    "reply_to",
];

/// Reads a body whose type refuses unknown fields, without those; a field that is `null` counts as left out.
fn lenient<T: serde::de::DeserializeOwned>(body: Value, known: &[&str]) -> Result<T, Failure> {
    let body = match body {
        Value::Object(mut object) => {
            object.retain(|name, value| known.contains(&name.as_str()) && !value.is_null());
            Value::Object(object)
        }
        other => other,
    };
    Ok(mesh_types::json::from_value(body)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_routers_body_is_read_without_what_it_does_not_know() {
        let body = json!({"agent_id": "agent:sofia", "entrypoint": null, "from": "elsewhere",
            "payload": {"microdao_id": "microdao:daarion", "rewrite_prompt": null, "extra": 1}});
        let request: RouterRequest = lenient(body, &ROUTER_FIELDS).unwrap();
        let (tenant, agent, request) = request.split().unwrap();
        assert_eq!((tenant.as_str(), agent.as_str()), ("daarion", "sofia"));
        assert_eq!(request.payload["extra"], 1);
        let problem = lenient::<RouterRequest>(json!({"payload": {}}), &ROUTER_FIELDS)
            .unwrap_err()
            .0;
        assert!(problem.detail.contains("agent_id"), "{problem:?}");
        assert!(lenient::<RouterRequest>(json!([]), &ROUTER_FIELDS).is_err());
    }

    #[test]
    fn every_field_of_the_router_is_known_here() {
        let request: RouterRequest = serde_json::from_value(json!({"agent_id": "a"})).unwrap();
        let Value::Object(fields) = serde_json::to_value(request).unwrap() else {
            unreachable!("a struct")
        };
        let mut names: Vec<&str> = fields.keys().map(String::as_str).collect();
        let mut known = ROUTER_FIELDS;
        names.sort_unstable();
        known.sort_unstable();
        assert_eq!(names, known);
    }
}
