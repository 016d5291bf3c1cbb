//! `/api/v1/memories`: what agents remember, finding it by meaning, and forgetting it with a receipt.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mesh_api::execution::Empty;
use mesh_api::memory::{
    ConsolidateRequest, Consolidation, EmbeddingReport, EmbeddingStatus, ForgetRequest, Forgotten, ListMemories,
    Memory, MemoryChange, MemoryConsolidate, MemoryErase, MemoryForget, MemoryGet, MemoryHistory, MemoryList,
    MemoryQuery, MemoryRequest, MemoryStore, MemoryType, MemoryUpdate, QueryReply, QueryRequest, Receipt, Revisions,
    Scope, StoreRequest, UpdateRequest,
};
use mesh_api::{Page, PageQuery};
use mesh_types::MemoryId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::agents::{if_match, set_etag};
use super::extract::{FromParams, Json, Nothing, Params, Query, Segment, Who};
use super::problem::Failure;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, store))
        .routes(routes!(search))
        .routes(routes!(embedding))
        .routes(routes!(consolidate))
        .routes(routes!(get, update, forget))
        .routes(routes!(history))
}

/// Erasing much takes longer than the request timeout.
pub(super) fn long_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(erase))
}

/// Memories, newest first.
#[utoipa::path(get, path = "/api/v1/memories", operation_id = "list_memories", tag = "memories", params(ListMemories),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Page<Memory>)))]
async fn list(
    State(app): State<App>,
    Who(caller): Who,
    Query(Listed(request)): Query<Listed>,
) -> Result<Json<Page<Memory>>, Failure> {
    app.call::<MemoryList>(&caller, &request).await.map(Json)
}

/// Stores a memory. The same `id` and body again is the first answer; what the agent knows already is counted, not
/// stored twice.
#[utoipa::path(post, path = "/api/v1/memories", operation_id = "store_memory", tag = "memories", request_body = StoreRequest,
    security(("credential" = ["service"])),
    responses((status = 201, body = Memory, headers(("ETag" = String), ("Location" = String)))))]
async fn store(
    State(app): State<App>,
    Who(caller): Who,
    Query(Nothing): Query<Nothing>,
    Json(mut request): Json<StoreRequest>,
) -> Result<Response, Failure> {
    // The call may be sent again when its answer is lost: with an id of its own it stays one memory.
    request.id.get_or_insert_with(|| app.ids.next());
    let memory = app.call::<MemoryStore>(&caller, &request).await?;
    let location = format!("/api/v1/memories/{}", memory.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], tagged(memory)).into_response())
}

/// The memories of an agent nearest to a question, best first, each with what its score is made of.
#[utoipa::path(post, path = "/api/v1/memories/search", operation_id = "search_memories", tag = "memories", request_body = QueryRequest,
    security(("credential" = ["viewer"])),
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

/// Embedding models in use, and how far each is; after a change of the model, how far re-embedding has come.
#[utoipa::path(get, path = "/api/v1/memories/embedding", operation_id = "get_embedding_status", tag = "memories",
    security(("credential" = ["viewer"])),
    responses((status = 200, body = EmbeddingReport)))]
async fn embedding(
    State(app): State<App>,
    Who(caller): Who,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<EmbeddingReport>, Failure> {
    app.call::<EmbeddingStatus>(&caller, &Empty {}).await.map(Json)
}

/// Condenses episodic memories of an agent into semantic ones now. The answer names the invocation that does it.
#[utoipa::path(post, path = "/api/v1/memories/consolidate", operation_id = "consolidate_memories", tag = "memories",
    request_body = ConsolidateRequest,
    security(("credential" = ["operator"])),
    responses((status = 202, body = Consolidation, description = "started", headers(("Location" = String))),
        (status = 200, body = Consolidation, description = "too few memories wait for it")))]
async fn consolidate(
    State(app): State<App>,
    Who(caller): Who,
    Query(Nothing): Query<Nothing>,
    Json(request): Json<ConsolidateRequest>,
) -> Result<Response, Failure> {
    let started = app.call::<MemoryConsolidate>(&caller, &request).await?;
    Ok(match started.invocation {
        Some(id) => {
            let location = format!("/api/v1/invocations/{id}");
            (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(started)).into_response()
        }
        None => Json(started).into_response(),
    })
}

/// Erases all memories that match, with their history and what was made of them. The receipt proves it.
#[utoipa::path(post, path = "/api/v1/memories/forget", operation_id = "erase_memories", tag = "memories", request_body = ForgetRequest,
    security(("credential" = ["operator"])),
    responses((status = 200, body = Receipt)))]
async fn erase(
    State(app): State<App>,
    Who(caller): Who,
    Query(Nothing): Query<Nothing>,
    Json(mut request): Json<ForgetRequest>,
) -> Result<Json<Receipt>, Failure> {
    request.id.get_or_insert_with(|| app.ids.next());
    app.call::<MemoryErase>(&caller, &request).await.map(Json)
}

/// One memory. Its `ETag` is its version.
#[utoipa::path(get, path = "/api/v1/memories/{id}", operation_id = "get_memory", tag = "memories", params(("id" = MemoryId, Path)),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Memory, headers(("ETag" = String)))))]
async fn get(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<MemoryId>,
    Query(Nothing): Query<Nothing>,
) -> Result<Response, Failure> {
    app.call::<MemoryGet>(&caller, &MemoryRequest { id }).await.map(tagged)
}

/// Changes a memory; what is left out stays. `If-Match` (or `version`) guards against losing another's change.
#[utoipa::path(patch, path = "/api/v1/memories/{id}", operation_id = "change_memory", tag = "memories",
    params(("id" = MemoryId, Path), ("If-Match" = Option<String>, Header, description = "ETag that must still hold")),
    request_body = MemoryChange,
    security(("credential" = ["operator"])),
    responses((status = 200, body = Memory, headers(("ETag" = String)))))]
async fn update(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<MemoryId>,
    Query(Nothing): Query<Nothing>,
    headers: HeaderMap,
    Json(change): Json<MemoryChange>,
) -> Result<Response, Failure> {
    let version = guarded(change.version, if_match(&headers)?)?;
    let change = MemoryChange { version, ..change };
    app.call::<MemoryUpdate>(&caller, &UpdateRequest { id, change })
        .await
        .map(tagged)
}

/// Forgets a memory for good.
#[utoipa::path(delete, path = "/api/v1/memories/{id}", operation_id = "forget_memory", tag = "memories", params(("id" = MemoryId, Path)),
    security(("credential" = ["operator"])),
    responses((status = 200, body = Forgotten)))]
async fn forget(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<MemoryId>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<Forgotten>, Failure> {
    app.call::<MemoryForget>(&caller, &MemoryRequest { id }).await.map(Json)
}

/// What a memory was before each change, newest first.
#[utoipa::path(get, path = "/api/v1/memories/{id}/history", operation_id = "get_memory_history", tag = "memories",
    params(("id" = MemoryId, Path)),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Revisions)))]
async fn history(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<MemoryId>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<Revisions>, Failure> {
    app.call::<MemoryHistory>(&caller, &MemoryRequest { id })
        .await
        .map(Json)
}

struct Listed(ListMemories);

impl FromParams for Listed {
    const NAMES: &'static [&'static str] = &[
        "agent",
        "type",
        "scope",
        "session",
        "user",
        "tag",
        "invocation",
        "superseded",
        "limit",
        "after",
    ];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        let page = PageQuery::from_params(params)?;
        Ok(Self(ListMemories {
            agent: params.take("agent")?,
            kind: one_of(params, "type", MemoryType::ALL, MemoryType::as_str)?,
            scope: one_of(params, "scope", Scope::ALL, Scope::as_str)?,
            session: params.take("session")?,
            user: params.take("user")?,
            tag: params.take("tag")?,
            invocation: params.take("invocation")?,
            superseded: params.take("superseded")?.unwrap_or(false),
            limit: page.limit,
            after: page.after,
        }))
    }
}

fn one_of<T: Copy, const N: usize>(
    params: &mut Params,
    name: &str,
    all: [T; N],
    text_of: fn(T) -> &'static str,
) -> Result<Option<T>, Failure> {
    let Some(text) = params.take::<String>(name)? else {
        return Ok(None);
    };
    let found = all.into_iter().find(|one| text_of(*one) == text);
    found.map(Some).ok_or_else(|| {
        let known = all.map(text_of).join(", ");
        Failure::invalid(name, format!("{name} must be one of {known}"))
    })
}

/// The version that must still be there: of the body or of `If-Match`, whose tags are versions.
fn guarded(of_body: Option<u32>, tag: Option<String>) -> Result<Option<u32>, Failure> {
    let Some(tag) = tag else {
        return Ok(of_body);
    };
    let of_tag = tag.parse::<u32>().map_err(|_| {
        Failure::invalid("If-Match", "this is no ETag of a memory").next("send the ETag of the memory as it was read")
    })?;
    match of_body {
        Some(version) if version != of_tag => {
            let detail = format!("If-Match says version {of_tag}, the body {version}");
            Err(Failure::invalid("version", detail).next("send one of them"))
        }
        _ => Ok(Some(of_tag)),
    }
}

fn tagged(memory: Memory) -> Response {
    let etag = memory.version.to_string();
    let mut response = Json(memory).into_response();
    set_etag(&mut response, &etag);
    response
}

/// Hits wanted, 1 to 100.
pub(super) fn check_k(k: u32) -> Result<(), Failure> {
    if (1..=100).contains(&k) {
        Ok(())
    } else {
        Err(Failure::invalid("k", "k must lie between 1 and 100"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_guarded_by_the_tag_the_body_or_both_alike() {
        let tag = |text: &str| Some(text.to_owned());
        assert_eq!(guarded(None, None), Ok(None));
        assert_eq!(guarded(Some(3), None), Ok(Some(3)));
        assert_eq!(guarded(None, tag("4")), Ok(Some(4)));
        assert_eq!(guarded(Some(4), tag("4")), Ok(Some(4)));
        let field = |result: Result<Option<u32>, Failure>| result.unwrap_err().0.field.unwrap_or_default();
        assert_eq!(field(guarded(Some(3), tag("4"))), "version");
        assert_eq!(field(guarded(None, tag("g4"))), "If-Match");
    }
}
