//! `/api/v1/knowledge`: documents that agents can be given, added as JSON or as they are, searched with citations.

use axum::extract::{FromRequest, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mesh_api::knowledge::{
    AddDocument, Document, DocumentDeleted, DocumentRequest, DocumentText, KnowledgeAdd, KnowledgeDelete, KnowledgeGet,
    KnowledgeList, KnowledgeReply, KnowledgeSearch, KnowledgeText, ListDocuments, SearchKnowledge,
};
use mesh_api::memory::BaseName;
use mesh_api::{Page, PageQuery};
use mesh_types::{Code, DocumentId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{
    FromParams, Json, Nothing, Params, Query, Segment, Who, header_text, is_json, media_type, parse_object, read_body,
};
use super::memories::check_k;
use super::problem::Failure;
use crate::state::App;

/// Bodies that are taken as a document, beside JSON.
const DOCUMENT_TYPES: [&str; 4] = ["text/plain", "text/markdown", "text/html", "application/pdf"];

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_base))
        .routes(routes!(list))
        .routes(routes!(get, delete))
        .routes(routes!(text))
        .routes(routes!(search))
}

/// Reading a large document, or fetching one, takes longer than the request timeout.
pub(super) fn long_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(add))
}

/// Adds a document, or a new version of the one of that name. It is found by its words at once, by its meaning when
/// `state` is `ready`. As JSON with `text`, `data` or `url`; or the document itself as the body, with `?name=`.
#[utoipa::path(post, path = "/api/v1/knowledge/{base}/documents", operation_id = "add_document", tag = "knowledge",
    params(("base" = BaseName, Path), ("name" = Option<String>, Query, description = "Name of a document that is the body itself")),
    request_body(content((AddDocument = "application/json"), (String = "text/plain"), (String = "text/markdown"),
        (String = "text/html"), (Vec<u8> = "application/pdf"))),
    security(("credential" = ["developer"])),
    responses((status = 201, body = Document, headers(("Location" = String)))))]
async fn add(
    State(app): State<App>,
    Who(caller): Who,
    Segment(base): Segment<BaseName>,
    Query(Named(name)): Query<Named>,
    Added(mut document): Added,
) -> Result<Response, Failure> {
    if document.base.as_ref().is_some_and(|said| *said != base) {
        return Err(Failure::invalid("base", format!("the path names the base `{base}`")).next("leave `base` out"));
    }
    document.base = Some(base);
    match (name, &document.name) {
        (Some(name), Some(said)) if name != *said => {
            return Err(
                Failure::invalid("name", format!("the query says `{name}`, the body `{said}`"))
                    .next("send one of them"),
            );
        }
        (Some(name), _) => document.name = Some(name),
        (None, _) => {}
    }
    let added = app.call::<KnowledgeAdd>(&caller, &document).await?;
    let location = format!("/api/v1/knowledge/documents/{}", added.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(added)).into_response())
}

/// Documents of one base, by name.
#[utoipa::path(get, path = "/api/v1/knowledge/{base}/documents", operation_id = "list_base_documents", tag = "knowledge",
    params(("base" = BaseName, Path), PageQuery),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Page<Document>)))]
async fn list_base(
    State(app): State<App>,
    Who(caller): Who,
    Segment(base): Segment<BaseName>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<Document>>, Failure> {
    let request = ListDocuments {
        base: Some(base),
        limit: page.limit,
        after: page.after,
    };
    app.call::<KnowledgeList>(&caller, &request).await.map(Json)
}

/// Documents of all bases.
#[utoipa::path(get, path = "/api/v1/knowledge/documents", operation_id = "list_documents", tag = "knowledge",
    params(ListDocuments),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Page<Document>)))]
async fn list(
    State(app): State<App>,
    Who(caller): Who,
    Query(Listed(request)): Query<Listed>,
) -> Result<Json<Page<Document>>, Failure> {
    app.call::<KnowledgeList>(&caller, &request).await.map(Json)
}

/// One document, and how far its embedding is.
#[utoipa::path(get, path = "/api/v1/knowledge/documents/{id}", operation_id = "get_document", tag = "knowledge",
    params(("id" = DocumentId, Path)),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Document)))]
async fn get(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<DocumentId>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<Document>, Failure> {
    app.call::<KnowledgeGet>(&caller, &DocumentRequest { id })
        .await
        .map(Json)
}

/// Deletes a document with all its versions.
#[utoipa::path(delete, path = "/api/v1/knowledge/documents/{id}", operation_id = "delete_document", tag = "knowledge",
    params(("id" = DocumentId, Path)),
    security(("credential" = ["developer"])),
    responses((status = 200, body = DocumentDeleted)))]
async fn delete(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<DocumentId>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<DocumentDeleted>, Failure> {
    app.call::<KnowledgeDelete>(&caller, &DocumentRequest { id })
        .await
        .map(Json)
}

/// A document's text as it was read, which citations point into, and its pieces.
#[utoipa::path(get, path = "/api/v1/knowledge/documents/{id}/text", operation_id = "get_document_text", tag = "knowledge",
    params(("id" = DocumentId, Path)),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = DocumentText)))]
async fn text(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<DocumentId>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<DocumentText>, Failure> {
    app.call::<KnowledgeText>(&caller, &DocumentRequest { id })
        .await
        .map(Json)
}

/// The pieces of documents nearest to a question, best first, each with its citation.
#[utoipa::path(post, path = "/api/v1/knowledge/search", operation_id = "search_knowledge", tag = "knowledge",
    request_body = SearchKnowledge,
    security(("credential" = ["viewer"])),
    responses((status = 200, body = KnowledgeReply)))]
async fn search(
    State(app): State<App>,
    Who(caller): Who,
    Query(Nothing): Query<Nothing>,
    Json(request): Json<SearchKnowledge>,
) -> Result<Json<KnowledgeReply>, Failure> {
    check_k(request.k)?;
    app.call::<KnowledgeSearch>(&caller, &request).await.map(Json)
}

/// A document from a body of JSON, or from one that is the document itself.
struct Added(AddDocument);

impl FromRequest<App> for Added {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Self, Failure> {
        let headers = request.headers();
        let essence = media_type(headers)?.unwrap_or_else(|| "application/json".to_owned());
        let is_json = is_json(&essence);
        if !is_json && !DOCUMENT_TYPES.contains(&essence.as_str()) {
            let shown: String = essence.chars().take(80).collect();
            let failure = Failure::new(Code::UnsupportedMediaType, format!("`{shown}` is not taken"));
            return Err(failure.next(&format!("send JSON, or one of {}", DOCUMENT_TYPES.join(", "))));
        }
        // With its parameters: the charset says how the bytes are read.
        let whole = header_text(headers, header::CONTENT_TYPE.as_str())?.map(str::to_owned);
        let bytes = read_body(request.into_body(), app).await?;
        if is_json {
            return parse_object(&bytes).map(Self);
        }
        if bytes.is_empty() {
            return Err(Failure::new(Code::InvalidRequest, "the document is empty"));
        }
        Ok(Self(AddDocument {
            base: None,
            name: None,
            media_type: whole,
            text: None,
            data: Some(STANDARD.encode(&bytes)),
            url: None,
        }))
    }
}

struct Named(Option<String>);

impl FromParams for Named {
    const NAMES: &'static [&'static str] = &["name"];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        params.take("name").map(Self)
    }
}

struct Listed(ListDocuments);

impl FromParams for Listed {
    const NAMES: &'static [&'static str] = &["base", "limit", "after"];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        let page = PageQuery::from_params(params)?;
        Ok(Self(ListDocuments {
            base: params.take("base")?,
            limit: page.limit,
            after: page.after,
        }))
    }
}
