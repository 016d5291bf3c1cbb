//! `/v1/chat/completions` and `/v1/models`: what clients of OpenAI's API ask, answered by agents. A model is an agent,
//! a completion an invocation: its id is `chatcmpl-` and the invocation's.

mod answer;
mod error;
mod request;

use std::collections::VecDeque;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::sse::Event as SseEvent;
use axum::response::{IntoResponse, Response};
use futures::Stream;
use mesh_api::registry::{AgentGet, AgentRequest, AgentView};
use mesh_types::{AgentName, Code, Problem};
use serde::Serialize;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Json, Nothing, Query, Segment, Who, header_text};
use super::followed::{Run, cut_off, published, sse};
use super::invocations::check_key;
use super::problem::Failure;
use super::until::{Farewell, ended};
use crate::state::App;
use answer::{Chunks, Collected};
pub(super) use error::body as error_body;
use request::{ChatRequest, Wanted};

/// What the official clients wait for an answer, in seconds.
const WAIT: Duration = Duration::from_secs(600);

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(models)).routes(routes!(model))
}

pub(super) fn long_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(chat))
}

/// A chat completion by the agent that `model` names, as OpenAI's API has it; streamed with `stream`. `user` or
/// `metadata.session` names the session, whose invocations run one at a time. Calls of the `tools` that the client
/// brings come back to it with `finish_reason` `tool_calls`; the agent's own tools run here. Errors have OpenAI's shape.
#[utoipa::path(post, path = "/v1/chat/completions", operation_id = "openai_chat", tag = "openai", request_body = ChatRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key and body again get the first answer; another body 422")),
    security(("credential" = ["service"])),
    responses((status = 200, content((Value = "application/json"), (String = "text/event-stream")))))]
async fn chat(
    State(app): State<App>,
    Who(caller): Who,
    Query(Nothing): Query<Nothing>,
    headers: HeaderMap,
    Json(request): Json<ChatRequest>,
) -> Result<Response, Failure> {
    let mut wanted = request.read()?;
    if let Some(key) = header_text(&headers, "idempotency-key")? {
        check_key(key)?;
        wanted.request.idempotency_key = Some(key.to_owned());
    }
    let Wanted {
        agent,
        request,
        streams,
        shows_usage,
    } = wanted;
    let run = Run::start(&app, &caller, agent, request).await?;
    if streams {
        let chunks = Chunks::new(&run.invocation, shows_usage);
        let mut response = sse(stream(run, chunks));
        let farewell = error::error(&ended().0);
        response
            .extensions_mut()
            .insert(Farewell(format!("data: {farewell}\n\n").into()));
        return Ok(response);
    }
    match tokio::time::timeout(WAIT, whole(run)).await {
        Ok(Ok(answer)) => Ok(Json(answer).into_response()),
        Ok(Err(problem)) => Ok(settled(problem)),
        Err(_) => Ok(settled(Problem::new(
            Code::Timeout,
            "no answer in ten minutes; it goes on",
        ))),
    }
}

/// What an invocation ended with is not to be asked again by a client's own retries: they would be new invocations.
fn settled(problem: Problem) -> Response {
    let mut response = Failure(problem).into_response();
    response
        .headers_mut()
        .insert("x-should-retry", HeaderValue::from_static("false"));
    response
}

async fn whole(mut run: Run) -> Result<Value, Problem> {
    let mut collected = Collected::new(&run.invocation);
    while let Some(told) = run.next_answer().await {
        if let Some(answer) = collected.take(told)? {
            return Ok(answer);
        }
    }
    Err(cut_off(run.invocation.id))
}

/// Chunks, and `[DONE]` unless it broke.
fn stream(run: Run, chunks: Chunks) -> impl Stream<Item = SseEvent> {
    let start = (run, chunks, VecDeque::<String>::new());
    futures::stream::unfold(start, |(mut run, mut chunks, mut waiting)| async move {
        loop {
            if let Some(data) = waiting.pop_front() {
                return Some((SseEvent::default().data(data), (run, chunks, waiting)));
            }
            if chunks.is_over() {
                return None;
            }
            match run.next_answer().await {
                Some(told) => waiting.extend(chunks.take(told)),
                None => waiting.push_back(chunks.broken(&cut_off(run.invocation.id))),
            }
        }
    })
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ModelObject {
    /// The agent's name.
    id: AgentName,
    #[schema(example = "model")]
    object: &'static str,
    /// Seconds since 1970: when its version was published.
    created: i64,
    /// The tenant.
    owned_by: String,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ModelObjects {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<ModelObject>,
}

/// The published agents, as models.
#[utoipa::path(get, path = "/v1/models", operation_id = "openai_models", tag = "openai",
    security(("credential" = ["viewer"])),
    responses((status = 200, body = ModelObjects)))]
async fn models(
    State(app): State<App>,
    Who(caller): Who,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<ModelObjects>, Failure> {
    let agents = published(&app, &caller).await?;
    let data = agents.iter().filter_map(|agent| object(agent, caller.tenant.as_str()));
    Ok(Json(ModelObjects {
        object: "list",
        data: data.collect(),
    }))
}

/// One published agent, as a model.
#[utoipa::path(get, path = "/v1/models/{model}", operation_id = "openai_model", tag = "openai", params(("model" = AgentName, Path)),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = ModelObject)))]
async fn model(
    State(app): State<App>,
    Who(caller): Who,
    Segment(name): Segment<AgentName>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<ModelObject>, Failure> {
    let request = AgentRequest { agent: name.clone() };
    let agent = app.call::<AgentGet>(&caller, &request).await?;
    let object = object(&agent, caller.tenant.as_str());
    object.map(Json).ok_or_else(|| {
        Failure::new(Code::AgentNotFound, format!("the agent `{name}` is not published"))
            .next("GET /v1/models lists those that are")
    })
}

fn object(agent: &AgentView, tenant: &str) -> Option<ModelObject> {
    let published = agent.status.published.as_ref()?;
    Some(ModelObject {
        id: agent.metadata.name.clone(),
        object: "model",
        created: published.published_at.as_micros() / 1_000_000,
        owned_by: tenant.to_owned(),
    })
}
