//! `/api/v1/auth`: sign-in of people, who one is, tickets for streams. The refresh token lives in a cookie that no script
//! reads, the access token in the answer.

mod cookies;
mod providers;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use mesh_api::identity::{
    Me, MeRequest, Membership, Methods, MethodsRequest, Mode, Person, PrincipalKind, Refresh, RefreshRequest,
    SessionView, SignIn, SignInMethods, SignInRequest, SignOut, SignOutRequest, SignedIn, TicketCreate, TicketCreated,
    TicketRequest,
};
use mesh_api::{Caller, Role};
use mesh_types::{Code, Tenant};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::credentials::WhoNode;
use super::edge::RequestIdentity;
use super::extract::{Json, NoFields, Nothing, OptionalJson, Query};
use super::origin;
use super::peer::{Peer, household};
use super::problem::Failure;
use crate::state::App;
use cookies::REFRESH;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(sign_in))
        .routes(routes!(refresh))
        .routes(routes!(sign_out))
        .routes(routes!(me))
        .routes(routes!(methods))
        .routes(routes!(create_ticket))
        .merge(providers::routes())
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct SignInBody {
    login: String,
    password: String,
    /// Absent: the person's own.
    #[serde(default)]
    tenant: Option<Tenant>,
}

#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
struct RefreshBody {
    /// Another tenant of the person's, from now on.
    tenant: Option<Tenant>,
}

/// Who asks, and what he may do.
#[derive(Serialize, utoipa::ToSchema)]
struct WhoAmI {
    mode: Mode,
    /// `user:ann`, or `dev`.
    actor: String,
    tenant: Tenant,
    role: Role,
    scopes: Vec<String>,
    /// `null` for keys and in development mode.
    user: Option<Person>,
    tenants: Vec<Membership>,
}

/// Signs a person in: an access token in the answer, the refresh token as a cookie.
#[utoipa::path(post, path = "/api/v1/auth/sign-in", operation_id = "sign_in", tag = "auth", security(()),
    request_body = SignInBody, responses((status = 200, body = SessionView)))]
async fn sign_in(
    State(app): State<App>,
    Extension(identity): Extension<RequestIdentity>,
    Peer(peer): Peer,
    headers: HeaderMap,
    Query(Nothing): Query<Nothing>,
    Json(body): Json<SignInBody>,
) -> Result<Response, Failure> {
    origin::check(&app, &headers)?;
    let request = SignInRequest {
        login: body.login,
        password: body.password,
        tenant: body.tenant,
        address: household(peer),
    };
    let signed_in = app.call::<SignIn>(&asker(&identity), &request).await?;
    Ok(entered(signed_in))
}

/// The next access token, and the next refresh token as a cookie.
#[utoipa::path(post, path = "/api/v1/auth/refresh", operation_id = "refresh_sign_in", tag = "auth", security(()),
    request_body = RefreshBody, responses((status = 200, body = SessionView)))]
async fn refresh(
    State(app): State<App>,
    Extension(identity): Extension<RequestIdentity>,
    headers: HeaderMap,
    Query(Nothing): Query<Nothing>,
    OptionalJson(body): OptionalJson<RefreshBody>,
) -> Result<Response, Failure> {
    origin::check(&app, &headers)?;
    let Some(refresh_token) = cookies::get(&headers, REFRESH) else {
        return Err(Failure::new(Code::Unauthorized, "nobody is signed in here").next("sign in"));
    };
    let request = RefreshRequest {
        refresh_token,
        tenant: body.tenant,
    };
    match app.call::<Refresh>(&asker(&identity), &request).await {
        Ok(signed_in) => Ok(entered(signed_in)),
        // What is over is no use to the browser either.
        Err(failure) if failure.0.is(Code::Unauthorized) => {
            Ok((AppendHeaders([(header::SET_COOKIE, cookies::none(REFRESH))]), failure).into_response())
        }
        Err(failure) => Err(failure),
    }
}

/// Ends the session of the cookie. Access tokens of it are refused within ten seconds.
#[utoipa::path(post, path = "/api/v1/auth/sign-out", operation_id = "sign_out", tag = "auth", security(()),
    responses((status = 204)))]
async fn sign_out(
    State(app): State<App>,
    Extension(identity): Extension<RequestIdentity>,
    headers: HeaderMap,
    Query(Nothing): Query<Nothing>,
    OptionalJson(NoFields {}): OptionalJson<NoFields>,
) -> Result<Response, Failure> {
    origin::check(&app, &headers)?;
    if let Some(refresh_token) = cookies::get(&headers, REFRESH) {
        let request = SignOutRequest { refresh_token };
        app.call::<SignOut>(&asker(&identity), &request).await?;
    }
    let gone = AppendHeaders([(header::SET_COOKIE, cookies::none(REFRESH))]);
    Ok((StatusCode::NO_CONTENT, gone).into_response())
}

/// Who asks, where, and as what.
#[utoipa::path(get, path = "/api/v1/auth/me", operation_id = "who_am_i", tag = "auth",
    security(("credential" = ["viewer"])), responses((status = 200, body = WhoAmI)))]
async fn me(State(app): State<App>, who: WhoNode, Query(Nothing): Query<Nothing>) -> Result<Json<WhoAmI>, Failure> {
    let WhoNode { caller, principal, .. } = who;
    let role = caller.role.unwrap_or(Role::Viewer);
    let here = Membership {
        tenant: caller.tenant.clone(),
        role,
    };
    let mut answer = WhoAmI {
        mode: mode(&app),
        actor: caller.actor.clone(),
        tenant: caller.tenant.clone(),
        role,
        scopes: Vec::new(),
        user: None,
        tenants: vec![here],
    };
    if let Some(principal) = principal {
        if principal.kind == PrincipalKind::User {
            let request = MeRequest { user: principal.id };
            let found = app.call::<Me>(&caller, &request).await?;
            (answer.user, answer.tenants) = (Some(found.user), found.tenants);
        }
        answer.scopes = principal.scopes;
    }
    Ok(Json(answer))
}

/// How people sign in here.
#[utoipa::path(get, path = "/api/v1/auth/methods", operation_id = "sign_in_methods", tag = "auth", security(()),
    responses((status = 200, body = SignInMethods)))]
async fn methods(
    State(app): State<App>,
    Extension(identity): Extension<RequestIdentity>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<SignInMethods>, Failure> {
    let found = app.call::<Methods>(&asker(&identity), &MethodsRequest {}).await?;
    // Whether credentials are demanded is the door's to say.
    let mode = mode(&app);
    let password = mode == Mode::Credentials;
    Ok(Json(SignInMethods {
        mode,
        password,
        ..found
    }))
}

/// A ticket of 30 seconds that opens one stream: `GET /api/v1/ws?ticket=…`.
#[utoipa::path(post, path = "/api/v1/auth/tickets", operation_id = "create_ticket", tag = "auth",
    security(("credential" = ["viewer"])), responses((status = 201, body = TicketCreated)))]
async fn create_ticket(
    State(app): State<App>,
    who: WhoNode,
    headers: HeaderMap,
    Query(Nothing): Query<Nothing>,
    OptionalJson(NoFields {}): OptionalJson<NoFields>,
) -> Result<Response, Failure> {
    origin::check(&app, &headers)?;
    // In development mode whatever a request carries was not looked at.
    let credential = who.principal.is_some().then_some(who.credential).flatten();
    let created = app
        .call::<TicketCreate>(&who.caller, &TicketRequest { credential })
        .await?;
    Ok((StatusCode::CREATED, NO_STORE, Json(created)).into_response())
}

const NO_STORE: [(header::HeaderName, HeaderValue); 1] =
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];

fn mode(app: &App) -> Mode {
    if app.desk.requires_credentials() {
        Mode::Credentials
    } else {
        Mode::Development
    }
}

/// Whoever stands at the door, before anybody knows who it is.
fn asker(identity: &RequestIdentity) -> Caller {
    Caller {
        request_id: Some(identity.id),
        ..Caller::service("gateway", Tenant::default())
    }
}

fn entered(signed_in: SignedIn) -> Response {
    let cookie = cookies::refresh(&signed_in);
    let cookie = AppendHeaders([(header::SET_COOKIE, cookie)]);
    (NO_STORE, cookie, Json(signed_in.session)).into_response()
}
