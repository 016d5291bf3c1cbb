//! `/api/v1/users`: the people of a tenant.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use mesh_api::identity::{
    PasswordRequest, PasswordSet, UserChange, UserCreate, UserCreated, UserDelete, UserDeleted, UserGet, UserList,
    UserPassword, UserRef, UserRequest, UserUpdate, UserUpdateRequest, UserView,
};
use mesh_api::{Page, PageQuery};
use mesh_types::Code;
use mesh_types::id::UserId;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::credentials::WhoNode;
use super::extract::{Json, Nothing, OptionalJson, Query, Segment, Who};
use super::peer::{Peer, household};
use super::problem::Failure;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_users, create_user))
        .routes(routes!(get_user, update_user, delete_user))
        .routes(routes!(set_password))
}

#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
struct PasswordBody {
    /// 12 to 256 characters. Absent: one is made and shown in the answer; for the owner only.
    password: Option<String>,
    /// Needed for one's own.
    current: Option<String>,
}

/// The people of the tenant, newest first.
#[utoipa::path(get, path = "/api/v1/users", operation_id = "list_users", tag = "users", params(PageQuery),
    security(("credential" = ["owner"])), responses((status = 200, body = Page<UserView>)))]
async fn list_users(
    State(app): State<App>,
    Who(caller): Who,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<UserView>>, Failure> {
    app.call::<UserList>(&caller, &page).await.map(Json)
}

/// Makes a person who may sign in. A password that is made stands in this answer only.
#[utoipa::path(post, path = "/api/v1/users", operation_id = "create_user", tag = "users", request_body = UserRequest,
    security(("credential" = ["owner"])),
    responses((status = 201, body = UserCreated)))]
async fn create_user(
    State(app): State<App>,
    who: WhoNode,
    Query(Nothing): Query<Nothing>,
    Json(request): Json<UserRequest>,
) -> Result<Response, Failure> {
    check_scopes(&who)?;
    let created = app.call::<UserCreate>(&who.caller, &request).await?;
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, no_store, Json(created)).into_response())
}

/// One of the people; everybody may see himself.
#[utoipa::path(get, path = "/api/v1/users/{id}", operation_id = "get_user", tag = "users", params(("id" = String, Path)),
    security(("credential" = ["viewer"])), responses((status = 200, body = UserView)))]
async fn get_user(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<UserId>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<UserView>, Failure> {
    app.call::<UserGet>(&caller, &of(id)).await.map(Json)
}

/// Changes the name, the role in this tenant, or whether he may sign in. Absent fields stay.
#[utoipa::path(patch, path = "/api/v1/users/{id}", operation_id = "update_user", tag = "users",
    params(("id" = String, Path)), request_body = UserChange, security(("credential" = ["owner"])),
    responses((status = 200, body = UserView)))]
async fn update_user(
    State(app): State<App>,
    who: WhoNode,
    Segment(id): Segment<UserId>,
    Query(Nothing): Query<Nothing>,
    Json(change): Json<UserChange>,
) -> Result<Json<UserView>, Failure> {
    check_scopes(&who)?;
    let request = UserUpdateRequest {
        id: id.to_string(),
        change,
    };
    app.call::<UserUpdate>(&who.caller, &request).await.map(Json)
}

/// Takes a person out of the tenant, with his keys and join tokens there; where it is his own, altogether.
#[utoipa::path(delete, path = "/api/v1/users/{id}", operation_id = "delete_user", tag = "users",
    params(("id" = String, Path)), security(("credential" = ["owner"])),
    responses((status = 200, body = UserDeleted)))]
async fn delete_user(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<UserId>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<UserDeleted>, Failure> {
    app.call::<UserDelete>(&caller, &of(id)).await.map(Json)
}

/// Sets a password: one's own with the current one, anybody's for the owner. Other sessions end.
#[utoipa::path(post, path = "/api/v1/users/{id}/password", operation_id = "set_user_password", tag = "users",
    params(("id" = String, Path)), request_body = PasswordBody, security(("credential" = ["viewer"])),
    responses((status = 200, body = PasswordSet)))]
async fn set_password(
    State(app): State<App>,
    who: WhoNode,
    Segment(id): Segment<UserId>,
    Peer(peer): Peer,
    Query(Nothing): Query<Nothing>,
    OptionalJson(body): OptionalJson<PasswordBody>,
) -> Result<Response, Failure> {
    check_scopes(&who)?;
    let request = PasswordRequest {
        id: id.to_string(),
        password: body.password,
        current: body.current,
        credential: who.principal.is_some().then_some(who.credential).flatten(),
        address: household(peer),
    };
    let set = app.call::<UserPassword>(&who.caller, &request).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(set)).into_response())
}

/// A key with scopes makes nobody who has none.
fn check_scopes(who: &WhoNode) -> Result<(), Failure> {
    if who
        .principal
        .as_ref()
        .is_none_or(|principal| principal.scopes.is_empty())
    {
        return Ok(());
    }
    Err(
        Failure::new(Code::Forbidden, "a key with scopes changes nobody's rights")
            .next("sign in, or use a key without scopes"),
    )
}

fn of(id: UserId) -> UserRef {
    UserRef { id: id.to_string() }
}
