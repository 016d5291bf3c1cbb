//! AG-UI: an agent's run, and a chat with a node, as the events that its user interfaces read.

mod fold;
mod input;
mod node;

use std::collections::VecDeque;

use axum::extract::State;
use axum::response::Response;
use axum::response::sse::Event as SseEvent;
use futures::Stream;
use mesh_types::AgentName;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Json, Nothing, Query, Segment, Who};
use super::followed::{Run, cut_off, sse};
use super::problem::Failure;
use super::until::{Farewell, ended};
use crate::state::App;
use fold::Fold;
use input::RunAgentInput;

pub(super) fn long_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(run)).routes(routes!(node::chat))
}

/// Runs the agent on a conversation, as AG-UI has it: events of the run as server-sent events. `threadId` is the
/// session; the same `runId` with the same body follows the same run. Calls of the tools that the client brings end the
/// run; the agent's own tools run here. A question for a person is the `CUSTOM` event `approval.requested`.
#[utoipa::path(post, path = "/api/v1/agents/{agent}/ag-ui", operation_id = "ag_ui_run", tag = "ag-ui",
    params(("agent" = AgentName, Path)), request_body = RunAgentInput,
    security(("credential" = ["service"])),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
async fn run(
    State(app): State<App>,
    Who(caller): Who,
    Segment(agent): Segment<AgentName>,
    Query(Nothing): Query<Nothing>,
    Json(input): Json<RunAgentInput>,
) -> Result<Response, Failure> {
    let request = input.read()?;
    let run = Run::start(&app, &caller, agent, request).await?;
    let fold = Fold::new(input, run.invocation.id.to_string());
    Ok(with_farewell(sse(stream(run, fold))))
}

/// A run whose reader's credential ends is told so, as its user interface would wait for its end.
fn with_farewell(mut response: Response) -> Response {
    let problem = ended().0;
    let event = json!({"type": "RUN_ERROR", "message": problem.detail, "code": problem.kind});
    let farewell = Farewell(format!("data: {event}\n\n").into());
    response.extensions_mut().insert(farewell);
    response
}

fn stream(run: Run, mut fold: Fold) -> impl Stream<Item = SseEvent> {
    let begun = VecDeque::from(fold.begin());
    futures::stream::unfold((run, fold, begun), |(mut run, mut fold, mut waiting)| async move {
        loop {
            if let Some(event) = waiting.pop_front() {
                return Some((sent(&event), (run, fold, waiting)));
            }
            if fold.is_over() {
                return None;
            }
            match run.next_answer().await {
                Some(told) => waiting.extend(fold.take(told)),
                None => waiting.extend(fold.broken(&cut_off(run.invocation.id))),
            }
        }
    })
}

fn sent(event: &Value) -> SseEvent {
    SseEvent::default().data(event.to_string())
}
