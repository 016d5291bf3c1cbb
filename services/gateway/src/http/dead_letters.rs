//! `/api/v1/dead-letters`: what could not be handled, with its reason, until a person settles it.

use axum::extract::State;
use axum::response::Response;
use mesh_api::execution::{
    DeadLetter, DeadLetterDiscard, DeadLetterGet, DeadLetterList, DeadLetterListRequest, DeadLetterRequest,
};
use mesh_api::steering::{DeadLetterRequeue, RequeueRequest, Requeued};
use mesh_api::{Page, PageQuery};
use mesh_types::DeadLetterId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{FromParams, Json, NoFields, Nothing, OptionalJson, Params, Query, Segment, Who};
use super::problem::Failure;
use super::steering::created;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(discard))
        .routes(routes!(requeue))
}

/// Open dead letters, newest first; with `?all=true` settled ones too.
#[utoipa::path(get, path = "/api/v1/dead-letters", operation_id = "list_dead_letters", tag = "dead letters",
    params(("all" = Option<bool>, Query), PageQuery),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Page<DeadLetter>)))]
async fn list(
    State(app): State<App>,
    Who(caller): Who,
    Query(Listed(request)): Query<Listed>,
) -> Result<Json<Page<DeadLetter>>, Failure> {
    app.call::<DeadLetterList>(&caller, &request).await.map(Json)
}

/// One dead letter.
#[utoipa::path(get, path = "/api/v1/dead-letters/{id}", operation_id = "get_dead_letter", tag = "dead letters", params(("id" = DeadLetterId, Path)),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = DeadLetter)))]
async fn get(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<DeadLetterId>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<DeadLetter>, Failure> {
    app.call::<DeadLetterGet>(&caller, &DeadLetterRequest { id })
        .await
        .map(Json)
}

/// Settles a dead letter: nothing is to be done about it.
#[utoipa::path(post, path = "/api/v1/dead-letters/{id}/discard", operation_id = "discard_dead_letter", tag = "dead letters",
    params(("id" = DeadLetterId, Path)),
    security(("credential" = ["operator"])),
    responses((status = 200, body = DeadLetter)))]
async fn discard(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<DeadLetterId>,
    Query(Nothing): Query<Nothing>,
    OptionalJson(NoFields {}): OptionalJson<NoFields>,
) -> Result<Json<DeadLetter>, Failure> {
    app.call::<DeadLetterDiscard>(&caller, &DeadLetterRequest { id })
        .await
        .map(Json)
}

/// Settles a dead letter by a new invocation, linked to it, that goes on from what is recorded.
#[utoipa::path(post, path = "/api/v1/dead-letters/{id}/requeue", operation_id = "requeue_dead_letter", tag = "dead letters",
    params(("id" = DeadLetterId, Path)),
    security(("credential" = ["operator"])),
    responses((status = 201, body = Requeued, headers(("Location" = String)))))]
async fn requeue(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<DeadLetterId>,
    Query(Nothing): Query<Nothing>,
    OptionalJson(NoFields {}): OptionalJson<NoFields>,
) -> Result<Response, Failure> {
    let requeued = app.call::<DeadLetterRequeue>(&caller, &RequeueRequest { id }).await?;
    Ok(created(requeued.invocation.id, Json(requeued)))
}

struct Listed(DeadLetterListRequest);

impl FromParams for Listed {
    const NAMES: &'static [&'static str] = &["all", "limit", "after"];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        let all = params.take::<bool>("all")?.unwrap_or(false);
        Ok(Self(DeadLetterListRequest {
            page: PageQuery::from_params(params)?,
            all,
        }))
    }
}
