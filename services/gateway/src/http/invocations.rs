//! `/api/v1/invocations` and `POST /api/v1/agents/{agent}/invocations`: start, read, cancel.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mesh_api::execution::{
    AcceptRequest, Bodies, CancelRequest, Counts, Invocation, InvocationAccept, InvocationCancel, InvocationCounts,
    InvocationFilter, InvocationGet, InvocationList, InvocationRequest, InvocationSteps, InvokeRequest, ListRequest,
    Step, StepsRequest,
};
use mesh_api::{Caller, Page, PageQuery};
use mesh_types::{AgentName, InvocationId};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{FromParams, Json, Nothing, OptionalJson, Params, Query, Segment, Who, header_text};
use super::problem::Failure;
use crate::state::App;

/// Longest `?wait=` in seconds.
pub(super) const WAIT_SECONDS_MAX: u32 = 300;
/// Longest idempotency key in bytes.
const KEY_BYTES_MAX: usize = 255;

/// Routes under the request timeout; [`invoke`] waits longer and is added beside them.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(counts))
        .routes(routes!(get))
        .routes(routes!(steps))
        .routes(routes!(cancel))
}

pub(super) fn waiting_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(invoke))
}

/// Starts an invocation. 202 once it is durable; with `?wait=` 200 once it has ended, or 202 if it has not by then.
#[utoipa::path(post, path = "/api/v1/agents/{agent}/invocations", operation_id = "invoke_agent", tag = "invocations",
    params(("agent" = AgentName, Path), ("wait" = Option<u32>, Query, maximum = 300, description = "Seconds to wait for the end, at most 300"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key and body again get the first answer; another body 422")),
    request_body = InvokeRequest,
    security(("credential" = ["service"])),
    responses((status = 200, body = Invocation, description = "ended"),
        (status = 202, body = Invocation, description = "accepted", headers(("Location" = String)))))]
async fn invoke(
    State(app): State<App>,
    Who(caller): Who,
    Segment(agent): Segment<AgentName>,
    Query(Wait(wait)): Query<Wait>,
    headers: HeaderMap,
    Json(request): Json<InvokeRequest>,
) -> Result<Response, Failure> {
    let request = with_key(request, header_text(&headers, "idempotency-key")?)?;
    if request.stream {
        return Err(Failure::invalid("stream", "stream is for calls over NATS (mesh.call)")
            .next("leave it out and read /api/v1/invocations/{id}/events"));
    }
    let invocation = accept(&app, &caller, agent, request, wait.unwrap_or(0)).await?;
    let status = if wait.is_some() && invocation.state.is_ended() {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    let location = format!("/api/v1/invocations/{}", invocation.id);
    Ok((status, [(header::LOCATION, location)], Json(invocation)).into_response())
}

/// Accepts, and waits for the end as long as asked.
pub(super) async fn accept(
    app: &App,
    caller: &Caller,
    agent: AgentName,
    mut request: InvokeRequest,
    wait_seconds: u32,
) -> Result<Invocation, Failure> {
    if request.invocation_id.is_none() && request.idempotency_key.is_none() {
        // The call may be sent again when its answer is lost: with an id of its own it stays one invocation.
        request.invocation_id = Some(app.ids.next());
    }
    let request = AcceptRequest {
        agent,
        request,
        wait_ms: u64::from(wait_seconds) * 1_000,
    };
    app.call::<InvocationAccept>(caller, &request).await
}

/// Invocations of the tenant, newest first.
#[utoipa::path(get, path = "/api/v1/invocations", operation_id = "list_invocations", tag = "invocations", params(InvocationFilter, PageQuery),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Page<Invocation>)))]
async fn list(
    State(app): State<App>,
    Who(caller): Who,
    Query(Filtered { filter, page }): Query<Filtered>,
) -> Result<Json<Page<Invocation>>, Failure> {
    app.call::<InvocationList>(&caller, &ListRequest { filter, page })
        .await
        .map(Json)
}

/// How many invocations match, by state.
#[utoipa::path(get, path = "/api/v1/invocations/counts", operation_id = "count_invocations", tag = "invocations", params(InvocationFilter),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Counts)))]
async fn counts(
    State(app): State<App>,
    Who(caller): Who,
    Query(filter): Query<InvocationFilter>,
) -> Result<Json<Counts>, Failure> {
    app.call::<InvocationCounts>(&caller, &filter).await.map(Json)
}

/// One invocation, read from the journal.
#[utoipa::path(get, path = "/api/v1/invocations/{id}", operation_id = "get_invocation", tag = "invocations", params(("id" = InvocationId, Path)),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Invocation)))]
async fn get(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<InvocationId>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<Invocation>, Failure> {
    app.call::<InvocationGet>(&caller, &InvocationRequest { id })
        .await
        .map(Json)
}

/// The journaled steps, in order.
#[utoipa::path(get, path = "/api/v1/invocations/{id}/steps", operation_id = "list_steps", tag = "invocations",
    params(("id" = InvocationId, Path), ("bodies" = Option<bool>, Query, description = "`false` leaves input and output out"), PageQuery),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Page<Step>)))]
async fn steps(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<InvocationId>,
    Query(StepsOf { bodies, page }): Query<StepsOf>,
) -> Result<Json<Page<Step>>, Failure> {
    app.call::<InvocationSteps>(&caller, &StepsRequest { id, bodies, page })
        .await
        .map(Json)
}

#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
struct Cancel {
    /// Why, for the journal.
    reason: Option<String>,
}

/// Cancels. The answer is the invocation with the end that won, if it has ended by then.
#[utoipa::path(post, path = "/api/v1/invocations/{id}/cancel", operation_id = "cancel_invocation", tag = "invocations", params(("id" = InvocationId, Path)),
    request_body = Option<Cancel>,
    security(("credential" = ["service"])),
    responses((status = 200, body = Invocation)))]
async fn cancel(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<InvocationId>,
    Query(Nothing): Query<Nothing>,
    OptionalJson(Cancel { reason }): OptionalJson<Cancel>,
) -> Result<Json<Invocation>, Failure> {
    app.call::<InvocationCancel>(&caller, &CancelRequest { id, reason })
        .await
        .map(Json)
}

/// The header is the same as the field; both with different values would be two keys.
fn with_key(mut request: InvokeRequest, header: Option<&str>) -> Result<InvokeRequest, Failure> {
    if let Some(key) = header {
        if request.idempotency_key.as_deref().is_some_and(|field| field != key) {
            let detail = "the header Idempotency-Key and the field idempotency_key differ";
            return Err(Failure::invalid("idempotency_key", detail).next("send one of them"));
        }
        request.idempotency_key = Some(key.to_owned());
    }
    if let Some(key) = &request.idempotency_key {
        check_key(key)?;
    }
    Ok(request)
}

pub(super) fn check_key(key: &str) -> Result<(), Failure> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(());
    }
    let detail = format!("a key has 1 to {KEY_BYTES_MAX} bytes");
    Err(Failure::invalid("idempotency_key", detail))
}

struct Wait(Option<u32>);

impl FromParams for Wait {
    const NAMES: &'static [&'static str] = &["wait"];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        params.take_number("wait", 0, WAIT_SECONDS_MAX).map(Self)
    }
}

impl FromParams for InvocationFilter {
    const NAMES: &'static [&'static str] = &["agent", "state", "session", "parent", "root", "since", "until", "q"];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        Ok(Self {
            agent: params.take("agent")?,
            state: params.take("state")?,
            session: params.take("session")?,
            parent: params.take("parent")?,
            root: params.take("root")?,
            since: params.take("since")?,
            until: params.take("until")?,
            q: params.take("q")?,
        })
    }
}

struct Filtered {
    filter: InvocationFilter,
    page: PageQuery,
}

impl FromParams for Filtered {
    const NAMES: &'static [&'static str] = &[
        "agent", "state", "session", "parent", "root", "since", "until", "q", "limit", "after",
    ];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        Ok(Self {
            filter: InvocationFilter::from_params(params)?,
            page: PageQuery::from_params(params)?,
        })
    }
}

struct StepsOf {
    bodies: Bodies,
    page: PageQuery,
}

impl FromParams for StepsOf {
    const NAMES: &'static [&'static str] = &["bodies", "limit", "after"];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        let bodies = if params.take::<bool>("bodies")?.unwrap_or(true) {
            Bodies::Full
        } else {
            Bodies::None
        };
        Ok(Self {
            bodies,
            page: PageQuery::from_params(params)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_has_one_key() {
        let body = |key: Option<&str>| InvokeRequest {
            idempotency_key: key.map(str::to_owned),
            ..InvokeRequest::default()
        };
        let key = |made: Result<InvokeRequest, Failure>| made.map(|request| request.idempotency_key);
        assert_eq!(key(with_key(body(None), Some("a"))), Ok(Some("a".into())));
        assert_eq!(key(with_key(body(Some("a")), Some("a"))), Ok(Some("a".into())));
        assert_eq!(key(with_key(body(Some("a")), None)), Ok(Some("a".into())));
        for wrong in [
            with_key(body(Some("a")), Some("b")),
            with_key(body(None), Some("")),
            with_key(body(Some(&"k".repeat(256))), None),
        ] {
            assert_eq!(wrong.unwrap_err().0.field.as_deref(), Some("idempotency_key"));
        }
    }
}
