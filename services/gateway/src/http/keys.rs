//! `/api/v1/keys`, `/api/v1/join-tokens`, `/api/v1/audit`: credentials, and who did what.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use mesh_api::identity::{
    JoinTokenCreate, JoinTokenCreated, JoinTokenList, JoinTokenRequest, JoinTokenRevoke, JoinTokenView, KeyCreate,
    KeyCreated, KeyList, KeyRequest, KeyRevoke, KeyView, RevokeRequest,
};
use mesh_api::{Page, PageQuery};
use mesh_types::Token;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::credentials::WhoNode;
use super::extract::{Json, NoFields, Nothing, OptionalJson, Query, Segment, Who};
use super::problem::Failure;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_keys, create_key))
        .routes(routes!(revoke_key))
        .routes(routes!(list_join_tokens, create_join_token))
        .routes(routes!(revoke_join_token))
}

/// API keys, newest first: one's own, an administrator's are all of the tenant.
#[utoipa::path(get, path = "/api/v1/keys", operation_id = "list_keys", tag = "credentials", params(PageQuery),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Page<KeyView>)))]
async fn list_keys(
    State(app): State<App>,
    Who(caller): Who,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<KeyView>>, Failure> {
    app.call::<KeyList>(&caller, &page).await.map(Json)
}

/// Makes an API key. Its secret stands in this answer only.
#[utoipa::path(post, path = "/api/v1/keys", operation_id = "create_key", tag = "credentials", request_body = KeyRequest,
    security(("credential" = ["operator"])),
    responses((status = 201, body = KeyCreated)))]
async fn create_key(
    State(app): State<App>,
    who: WhoNode,
    Query(Nothing): Query<Nothing>,
    Json(request): Json<KeyRequest>,
) -> Result<Response, Failure> {
    check_scopes(&who, &request.scopes)?;
    let created = app.call::<KeyCreate>(&who.caller, &request).await?;
    Ok(secret(created))
}

/// Revokes an API key, or the secret of a node by the node's id. It is refused within ten seconds everywhere.
#[utoipa::path(post, path = "/api/v1/keys/{id}/revoke", operation_id = "revoke_key", tag = "credentials",
    params(("id" = String, Path)),
    security(("credential" = ["operator"])),
    responses((status = 200, body = KeyView)))]
async fn revoke_key(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<Token>,
    Query(Nothing): Query<Nothing>,
    OptionalJson(NoFields {}): OptionalJson<NoFields>,
) -> Result<Json<KeyView>, Failure> {
    app.call::<KeyRevoke>(&caller, &revoke(&id)).await.map(Json)
}

/// Join tokens, newest first: one's own, an administrator's are all of the tenant.
#[utoipa::path(get, path = "/api/v1/join-tokens", operation_id = "list_join_tokens", tag = "credentials",
    params(PageQuery),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Page<JoinTokenView>)))]
async fn list_join_tokens(
    State(app): State<App>,
    Who(caller): Who,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<JoinTokenView>>, Failure> {
    app.call::<JoinTokenList>(&caller, &page).await.map(Json)
}

/// Makes a token that nodes join with. Its secret stands in this answer only.
#[utoipa::path(post, path = "/api/v1/join-tokens", operation_id = "create_join_token", tag = "credentials",
    request_body = JoinTokenRequest,
    security(("credential" = ["operator"])),
    responses((status = 201, body = JoinTokenCreated)))]
async fn create_join_token(
    State(app): State<App>,
    who: WhoNode,
    Query(Nothing): Query<Nothing>,
    Json(request): Json<JoinTokenRequest>,
) -> Result<Response, Failure> {
    // A node has no scopes.
    check_scopes(&who, &["nodes:write".to_owned()])?;
    let created = app.call::<JoinTokenCreate>(&who.caller, &request).await?;
    Ok(secret(created))
}

/// Revokes a join token: nodes that joined with it stay.
#[utoipa::path(post, path = "/api/v1/join-tokens/{id}/revoke", operation_id = "revoke_join_token", tag = "credentials",
    params(("id" = String, Path)),
    security(("credential" = ["operator"])),
    responses((status = 200, body = JoinTokenView)))]
async fn revoke_join_token(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<Token>,
    Query(Nothing): Query<Nothing>,
    OptionalJson(NoFields {}): OptionalJson<NoFields>,
) -> Result<Json<JoinTokenView>, Failure> {
    app.call::<JoinTokenRevoke>(&caller, &revoke(&id)).await.map(Json)
}

/// A key with scopes makes keys with some of them only.
fn check_scopes(who: &WhoNode, wanted: &[String]) -> Result<(), Failure> {
    let own = who.principal.as_ref().map_or(&[][..], |principal| &principal.scopes);
    if own.is_empty() || (!wanted.is_empty() && wanted.iter().all(|scope| own.contains(scope))) {
        return Ok(());
    }
    Err(Failure::invalid(
        "scopes",
        format!("this key makes keys with some of its own scopes: {}", own.join(", ")),
    ))
}

/// An answer that no cache on the way may keep.
fn secret<T: serde::Serialize>(created: T) -> Response {
    (
        StatusCode::CREATED,
        [(header::CACHE_CONTROL, "no-store")],
        Json(created),
    )
        .into_response()
}

fn revoke(id: &Token) -> RevokeRequest {
    RevokeRequest { id: id.to_string() }
}
