//! Steering what runs: pause and resume, signal, fork, compare, replay.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mesh_api::execution::{Empty, Invocation};
use mesh_api::steering::{
    CompareRequest, Comparison, Edit, ForkReply, ForkRequest, InvocationCompare, InvocationFork, InvocationReplay,
    InvocationSignal, Pause, PauseRequest, PauseTarget, PauseView, Pauses, ReplayReport, ReplayRequest, Resume,
    SignalRequest,
};
use mesh_api::{Caller, Page};
use mesh_types::{AgentName, InvocationId, RequestId};
use serde::Deserialize;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{FromParams, Json, Nothing, OptionalJson, Params, Query, Segment, TwoSegments, Who, header_text};
use super::invocations::check_key;
use super::problem::Failure;
use crate::state::App;

/// Longest name of a signal in bytes.
const SIGNAL_BYTES_MAX: usize = 256;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(pauses))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(pause_agent))
        .routes(routes!(resume_agent))
        .routes(routes!(pause_invocation))
        .routes(routes!(resume_invocation))
        .routes(routes!(signal))
        .routes(routes!(fork))
        .routes(routes!(compare))
        .routes(routes!(replay))
}

#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
struct Reason {
    /// Why, for the journal and for who looks.
    reason: Option<String>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct PauseBody {
    /// `"tenant"` for the caller's, `"all"` for every tenant, or `{"agent":…}`, `{"invocation":…}`.
    target: PauseTarget,
    /// Why, for who looks.
    #[serde(default)]
    reason: Option<String>,
}

/// What is paused: agents, the tenant, everything. Single invocations say it themselves (`paused`).
#[utoipa::path(get, path = "/api/v1/pauses", operation_id = "list_pauses", tag = "steering",
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Page<PauseView>)))]
async fn pauses(
    State(app): State<App>,
    Who(caller): Who,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<Page<PauseView>>, Failure> {
    app.call::<Pauses>(&caller, &Empty {}).await.map(Json)
}

/// Pauses the tenant or everything: nothing new is claimed, running work stops at its next step, accepting goes on.
#[utoipa::path(post, path = "/api/v1/pause", operation_id = "pause", tag = "steering", request_body = PauseBody,
    security(("credential" = ["operator"])),
    responses((status = 200, body = PauseView)))]
async fn pause(
    State(app): State<App>,
    Who(caller): Who,
    Query(Nothing): Query<Nothing>,
    Json(PauseBody { target, reason }): Json<PauseBody>,
) -> Result<Json<PauseView>, Failure> {
    stop(&app, &caller, target, reason).await
}

/// Lets the tenant, or everything, go on.
#[utoipa::path(post, path = "/api/v1/resume", operation_id = "resume", tag = "steering", request_body = PauseBody,
    security(("credential" = ["operator"])),
    responses((status = 200, body = PauseView)))]
async fn resume(
    State(app): State<App>,
    Who(caller): Who,
    Query(Nothing): Query<Nothing>,
    Json(PauseBody { target, reason }): Json<PauseBody>,
) -> Result<Json<PauseView>, Failure> {
    go_on(&app, &caller, target, reason).await
}

/// Pauses all of an agent's invocations.
#[utoipa::path(post, path = "/api/v1/agents/{agent}/pause", operation_id = "pause_agent", tag = "steering",
    params(("agent" = AgentName, Path)), request_body = Option<Reason>,
    security(("credential" = ["operator"])),
    responses((status = 200, body = PauseView)))]
async fn pause_agent(
    State(app): State<App>,
    Who(caller): Who,
    Segment(agent): Segment<AgentName>,
    Query(Nothing): Query<Nothing>,
    OptionalJson(Reason { reason }): OptionalJson<Reason>,
) -> Result<Json<PauseView>, Failure> {
    stop(&app, &caller, PauseTarget::Agent(agent), reason).await
}

/// Lets an agent's invocations go on.
#[utoipa::path(post, path = "/api/v1/agents/{agent}/resume", operation_id = "resume_agent", tag = "steering",
    params(("agent" = AgentName, Path)), request_body = Option<Reason>,
    security(("credential" = ["operator"])),
    responses((status = 200, body = PauseView)))]
async fn resume_agent(
    State(app): State<App>,
    Who(caller): Who,
    Segment(agent): Segment<AgentName>,
    Query(Nothing): Query<Nothing>,
    OptionalJson(Reason { reason }): OptionalJson<Reason>,
) -> Result<Json<PauseView>, Failure> {
    go_on(&app, &caller, PauseTarget::Agent(agent), reason).await
}

/// Pauses one invocation: it is not claimed or, if it runs, stops at its next step.
#[utoipa::path(post, path = "/api/v1/invocations/{id}/pause", operation_id = "pause_invocation", tag = "steering",
    params(("id" = InvocationId, Path)), request_body = Option<Reason>,
    security(("credential" = ["operator"])),
    responses((status = 200, body = PauseView)))]
async fn pause_invocation(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<InvocationId>,
    Query(Nothing): Query<Nothing>,
    OptionalJson(Reason { reason }): OptionalJson<Reason>,
) -> Result<Json<PauseView>, Failure> {
    stop(&app, &caller, PauseTarget::Invocation(id), reason).await
}

/// Lets one invocation go on, from its last recorded step.
#[utoipa::path(post, path = "/api/v1/invocations/{id}/resume", operation_id = "resume_invocation", tag = "steering",
    params(("id" = InvocationId, Path)), request_body = Option<Reason>,
    security(("credential" = ["operator"])),
    responses((status = 200, body = PauseView)))]
async fn resume_invocation(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<InvocationId>,
    Query(Nothing): Query<Nothing>,
    OptionalJson(Reason { reason }): OptionalJson<Reason>,
) -> Result<Json<PauseView>, Failure> {
    go_on(&app, &caller, PauseTarget::Invocation(id), reason).await
}

async fn stop(
    app: &App,
    caller: &Caller,
    target: PauseTarget,
    reason: Option<String>,
) -> Result<Json<PauseView>, Failure> {
    app.call::<Pause>(caller, &PauseRequest { target, reason })
        .await
        .map(Json)
}

async fn go_on(
    app: &App,
    caller: &Caller,
    target: PauseTarget,
    reason: Option<String>,
) -> Result<Json<PauseView>, Failure> {
    app.call::<Resume>(caller, &PauseRequest { target, reason })
        .await
        .map(Json)
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Signal {
    /// 1 to 256 bytes.
    name: String,
    #[serde(default)]
    value: Value,
}

/// Tells an invocation something that one of its steps waits for, or will wait for. The same key again is the same
/// signal.
#[utoipa::path(post, path = "/api/v1/invocations/{id}/signal", operation_id = "signal_invocation", tag = "steering",
    params(("id" = InvocationId, Path), ("Idempotency-Key" = Option<String>, Header)), request_body = Signal,
    security(("credential" = ["service"])),
    responses((status = 200, body = Invocation)))]
async fn signal(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<InvocationId>,
    Query(Nothing): Query<Nothing>,
    headers: HeaderMap,
    Json(Signal { name, value }): Json<Signal>,
) -> Result<Json<Invocation>, Failure> {
    if name.is_empty() || name.len() > SIGNAL_BYTES_MAX {
        let detail = format!("the name of a signal has 1 to {SIGNAL_BYTES_MAX} bytes");
        return Err(Failure::invalid("name", detail));
    }
    let key = Some(key_or_own(&app, &headers)?);
    let request = SignalRequest { id, name, value, key };
    app.call::<InvocationSignal>(&caller, &request).await.map(Json)
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Fork {
    /// First step that is not taken over as it was recorded, from 1.
    #[schema(minimum = 1)]
    from_step: u32,
    #[serde(default)]
    edit: Edit,
}

/// Makes a new invocation that takes the recorded steps before `from_step` over and goes on from there, with an edit.
/// With `?dry_run=true` only what would become of each recorded step.
#[utoipa::path(post, path = "/api/v1/invocations/{id}/fork", operation_id = "fork_invocation", tag = "steering",
    params(("id" = InvocationId, Path), ("dry_run" = Option<bool>, Query),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key again finds the first fork")),
    request_body = Fork,
    security(("credential" = ["operator"])),
    responses((status = 200, body = ForkReply, description = "what a fork would do"),
        (status = 201, body = ForkReply, headers(("Location" = String)))))]
async fn fork(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<InvocationId>,
    Query(DryRun(dry_run)): Query<DryRun>,
    headers: HeaderMap,
    Json(Fork { from_step, edit }): Json<Fork>,
) -> Result<Response, Failure> {
    if from_step == 0 {
        return Err(Failure::invalid("from_step", "steps are counted from 1"));
    }
    let request = ForkRequest {
        id,
        from_step,
        edit,
        dry_run,
        idempotency_key: if dry_run {
            None
        } else {
            Some(key_or_own(&app, &headers)?)
        },
    };
    let reply = app.call::<InvocationFork>(&caller, &request).await?;
    Ok(match &reply.invocation {
        Some(made) => created(made.id, Json(reply)),
        None => Json(reply).into_response(),
    })
}

/// 201 with the place of the new invocation.
pub(super) fn created(id: InvocationId, body: impl IntoResponse) -> Response {
    let location = format!("/api/v1/invocations/{id}");
    (StatusCode::CREATED, [(header::LOCATION, location)], body).into_response()
}

struct DryRun(bool);

impl FromParams for DryRun {
    const NAMES: &'static [&'static str] = &["dry_run"];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        Ok(Self(params.take("dry_run")?.unwrap_or(false)))
    }
}

/// Two invocations step by step, and where they part.
#[utoipa::path(get, path = "/api/v1/invocations/{id}/compare/{other}", operation_id = "compare_invocations", tag = "steering",
    params(("id" = InvocationId, Path), ("other" = InvocationId, Path)),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Comparison)))]
async fn compare(
    State(app): State<App>,
    Who(caller): Who,
    TwoSegments(left, right): TwoSegments<InvocationId, InvocationId>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<Comparison>, Failure> {
    let request = CompareRequest { left, right };
    app.call::<InvocationCompare>(&caller, &request).await.map(Json)
}

#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
struct Replay {
    /// Version of the agent; absent: the published one.
    #[schema(minimum = 1)]
    version: Option<u32>,
}

/// Re-runs the recording against a version of its agent, offline, and lists where it would diverge. Nothing is run and
/// nothing written.
#[utoipa::path(post, path = "/api/v1/invocations/{id}/replay", operation_id = "replay_invocation", tag = "steering",
    params(("id" = InvocationId, Path)), request_body = Option<Replay>,
    security(("credential" = ["viewer"])),
    responses((status = 200, body = ReplayReport)))]
async fn replay(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<InvocationId>,
    Query(Nothing): Query<Nothing>,
    OptionalJson(Replay { version }): OptionalJson<Replay>,
) -> Result<Json<ReplayReport>, Failure> {
    let request = ReplayRequest { id, version };
    app.call::<InvocationReplay>(&caller, &request).await.map(Json)
}

/// The client's key, else one of this request's own: a call that is sent again inside stays one.
fn key_or_own(app: &App, headers: &HeaderMap) -> Result<String, Failure> {
    match header_text(headers, "idempotency-key")? {
        Some(key) => check_key(key).map(|()| key.to_owned()),
        None => Ok(app.ids.next::<RequestId>().to_string()),
    }
}
