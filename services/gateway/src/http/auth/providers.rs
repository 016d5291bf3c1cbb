//! `/api/v1/auth/providers`: a browser on its way to another provider and back. These two answer a browser, not a
//! program: what fails on the way back goes to the page of sign-in.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use mesh_api::identity::{ProviderFinish, ProviderFinishRequest, ProviderStart, ProviderStartRequest};
use mesh_types::{Code, Token};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::edge::RequestIdentity;
use super::super::extract::{FromParams, Params, Query, Segment, header_text};
use super::super::peer::{Peer, household};
use super::super::problem::Failure;
use super::cookies::{self, BINDING};
use super::{NO_STORE, asker};
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(start)).routes(routes!(callback))
}

struct ReturnTo(String);

impl FromParams for ReturnTo {
    const NAMES: &'static [&'static str] = &["return_to"];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        Ok(Self(params.take("return_to")?.unwrap_or_else(|| "/".to_owned())))
    }
}

/// Sends the browser to the provider. `return_to` is where it goes when it is signed in: a path of this server.
#[utoipa::path(get, path = "/api/v1/auth/providers/{id}/start", operation_id = "start_provider_sign_in", tag = "auth",
    security(()), params(("id" = String, Path), ("return_to" = Option<String>, Query)),
    responses((status = 302, description = "to the provider")))]
async fn start(
    State(app): State<App>,
    Extension(identity): Extension<RequestIdentity>,
    Segment(id): Segment<Token>,
    Query(ReturnTo(return_to)): Query<ReturnTo>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let host = header_text(&headers, header::HOST.as_str())?.unwrap_or_default();
    let request = ProviderStartRequest {
        provider: id.to_string(),
        return_to,
        asked_at: format!("http://{host}"),
    };
    let caller = asker(&identity);
    let started = app
        .call_within::<ProviderStart>(&caller, &request, app.request_timeout)
        .await?;
    let cookie = AppendHeaders([(header::SET_COOKIE, cookies::binding(&started.binding))]);
    Ok((cookie, to(&started.location)?).into_response())
}

/// Where the provider sends the browser back to.
#[utoipa::path(get, path = "/api/v1/auth/providers/{id}/callback", operation_id = "finish_provider_sign_in", tag = "auth",
    security(()), params(("id" = String, Path), ("code" = Option<String>, Query), ("state" = Option<String>, Query)),
    responses((status = 302, description = "to `return_to`, or to the page of sign-in")))]
async fn callback(
    State(app): State<App>,
    Extension(identity): Extension<RequestIdentity>,
    Segment(id): Segment<Token>,
    Peer(peer): Peer,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let gone = (header::SET_COOKIE, cookies::none(BINDING));
    let finished = finish(&app, &identity, &id, household(peer), &headers, &uri).await;
    let answer = match finished {
        Ok((cookie, location)) => {
            to(&location).map(|to| (AppendHeaders([gone.clone(), (header::SET_COOKIE, cookie)]), to).into_response())
        }
        Err(failure) => {
            tracing::info!(
                kind = failure.0.kind,
                detail = failure.0.detail,
                "a sign-in elsewhere came to nothing"
            );
            let location = format!("/sign-in?error={}", failure.0.kind);
            to(&location).map(|to| (AppendHeaders([gone]), to).into_response())
        }
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

async fn finish(
    app: &App,
    identity: &RequestIdentity,
    id: &Token,
    address: String,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<(HeaderValue, String), Failure> {
    // Providers add parameters of their own.
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
    let pairs = pairs.map_err(|_| Failure::new(Code::InvalidRequest, "the query cannot be read"))?;
    let get = |name: &str| {
        let found = pairs.0.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let request = ProviderFinishRequest {
        provider: id.to_string(),
        code: get("code"),
        state: get("state"),
        binding: cookies::get(headers, BINDING).unwrap_or_default(),
        address,
    };
    let finished = app
        .call_within::<ProviderFinish>(&asker(identity), &request, app.request_timeout)
        .await?;
    Ok((cookies::refresh(&finished.signed_in), finished.return_to))
}

fn to(location: &str) -> Result<Response, Failure> {
    let location =
        HeaderValue::from_str(location).map_err(|_| Failure::new(Code::Internal, "an address that no header takes"))?;
    Ok((StatusCode::FOUND, NO_STORE, [(header::LOCATION, location)]).into_response())
}
