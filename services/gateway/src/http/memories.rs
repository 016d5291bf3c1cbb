//! `/api/v1/memories`: what agents remember, and finding it by meaning.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use mesh_api::memory::{
    Forgotten, Memory, MemoryChange, MemoryForget, MemoryGet, MemoryQuery, MemoryRequest, MemoryStore, MemoryUpdate,
    QueryReply, QueryRequest, StoreRequest, UpdateRequest,
};
use mesh_types::MemoryId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Json, Nothing, Query, Segment, Who};
use super::problem::Failure;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(store))
        .routes(routes!(search))
        .routes(routes!(get, update, forget))
}

/// Stores a memory. The same `id` and body again is the first answer.
#[utoipa::path(post, path = "/api/v1/memories", operation_id = "store_memory", tag = "memories", request_body = StoreRequest,
    responses((status = 201, body = Memory, headers(("Location" = String)))))]
async fn store(
    State(app): State<App>,
    Who(caller): Who,
    Query(Nothing): Query<Nothing>,
    Json(request): Json<StoreRequest>,
) -> Result<Response, Failure> {
    let memory = app.call::<MemoryStore>(&caller, &request).await?;
    let location = format!("/api/v1/memories/{}", memory.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(memory)).into_response())
}

/// The memories of an agent nearest to a question, best first.
#[utoipa::path(post, path = "/api/v1/memories/search", operation_id = "search_memories", tag = "memories", request_body = QueryRequest,
    responses((status = 200, body = QueryReply)))]
async fn search(
    State(app): State<App>,
    Who(caller): Who,
    Query(Nothing): Query<Nothing>,
    Json(request): Json<QueryRequest>,
) -> Result<Json<QueryReply>, Failure> {
    check_k(request.k)?;
    app.call::<MemoryQuery>(&caller, &request).await.map(Json)
}

/// One memory.
#[utoipa::path(get, path = "/api/v1/memories/{id}", operation_id = "get_memory", tag = "memories", params(("id" = MemoryId, Path)),
    responses((status = 200, body = Memory)))]
async fn get(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<MemoryId>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<Memory>, Failure> {
    app.call::<MemoryGet>(&caller, &MemoryRequest { id }).await.map(Json)
}

/// Changes a memory; what is left out stays.
#[utoipa::path(patch, path = "/api/v1/memories/{id}", operation_id = "change_memory", tag = "memories", params(("id" = MemoryId, Path)),
    request_body = MemoryChange, responses((status = 200, body = Memory)))]
async fn update(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<MemoryId>,
    Query(Nothing): Query<Nothing>,
    Json(change): Json<MemoryChange>,
) -> Result<Json<Memory>, Failure> {
    app.call::<MemoryUpdate>(&caller, &UpdateRequest { id, change })
        .await
        .map(Json)
}

/// Forgets a memory for good.
#[utoipa::path(delete, path = "/api/v1/memories/{id}", operation_id = "forget_memory", tag = "memories", params(("id" = MemoryId, Path)),
    responses((status = 200, body = Forgotten)))]
async fn forget(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<MemoryId>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<Forgotten>, Failure> {
    app.call::<MemoryForget>(&caller, &MemoryRequest { id }).await.map(Json)
}

/// Hits wanted, 1 to 100.
pub(super) fn check_k(k: u32) -> Result<(), Failure> {
    if (1..=100).contains(&k) {
        Ok(())
    } else {
        Err(Failure::invalid("k", "k must lie between 1 and 100"))
    }
}
