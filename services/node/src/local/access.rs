//! Who may ask: nobody without a key, and no page but the node's own. A browser would carry another page's requests
//! here, so a request must be addressed to this very server (against DNS rebinding) and must not come from elsewhere.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use mesh_types::Code;
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::keys::Key;
use super::problem::{Body, Failure};
use super::sessions::LIFE;

const KEY_HEADER: &str = "x-service-api-key";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignIn {
    key: String,
}

/// A session for a key: the cookie is for this server's own pages only, and no script reads it.
pub(super) async fn sign_in(State(app): State<App>, Body(asked): Body<SignIn>) -> Result<Response, Failure> {
    let key = app.keys.opens(asked.key.trim(), app.settings.as_ref()).await?;
    let cookie = app.sessions.begin(key, &app.context);
    let name = cookie_name(&app);
    let life = LIFE.as_secs();
    Ok(with_cookie(&format!(
        "{name}={cookie}; HttpOnly; SameSite=Strict; Path=/; Max-Age={life}"
    )))
}

/// Whether the browser has one.
pub(super) async fn signed_in(State(app): State<App>, headers: HeaderMap) -> Json<Value> {
    Json(json!({"signed_in": demanded(&app, &headers).await.is_ok()}))
}

pub(super) async fn sign_out(State(app): State<App>, headers: HeaderMap) -> Response {
    if let Some(cookie) = cookie(&app, &headers) {
        app.sessions.end(cookie);
    }
    let name = cookie_name(&app);
    with_cookie(&format!("{name}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0"))
}

fn with_cookie(cookie: &str) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

/// Around every route that says or changes something.
pub(super) async fn demand_key(State(app): State<App>, request: Request, next: Next) -> Response {
    match demanded(&app, request.headers()).await {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

async fn demanded(app: &App, headers: &HeaderMap) -> Result<(), Failure> {
    let settings = app.settings.as_ref();
    if let Some(key) = shown_key(headers) {
        app.keys.opens(key, settings).await?;
        return Ok(());
    }
    let key: Option<Key> = cookie(app, headers).and_then(|cookie| app.sessions.key_of(cookie, app.context.clock.now()));
    let Some(key) = key else {
        return Err(Failure::new(Code::Unauthorized, "sign in with the node's key first")
            .next("open the node's page, or send the key as `Authorization: Bearer …`"));
    };
    Ok(app.keys.still_opens(&key, settings).await?)
}

/// A key that a program sends with each request.
fn shown_key(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
    text(KEY_HEADER).or(bearer).map(str::trim)
}

/// Cookies know no ports: each node of a machine has its own name.
fn cookie_name(app: &App) -> String {
    format!("mesh_node_{}", app.address.port())
}

fn cookie<'a>(app: &App, headers: &'a HeaderMap) -> Option<&'a str> {
    let name = cookie_name(app);
    let all = headers.get_all(header::COOKIE).into_iter();
    let pairs = all
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'));
    pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(named, value)| (named == name).then_some(value))
}

/// Around everything.
pub(super) async fn own_pages_only(State(app): State<App>, request: Request, next: Next) -> Response {
    match refuse_foreign(app.address.port(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

fn refuse_foreign(port: u16, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    let host = match headers.get(header::HOST) {
        Some(value) => value.to_str().ok(),
        None => uri.authority().map(Authority::as_str),
    };
    let names = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    if !host.is_some_and(|host| names.iter().any(|name| name == host)) {
        return Err(Failure::new(
            Code::Forbidden,
            "only requests to this machine by its own name are taken",
        )
        .next(&format!("use http://{}", names[0])));
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
    if origin.is_some() && origin == host {
        return Ok(());
    }
    Err(Failure::new(Code::Forbidden, "only the node's own page may ask"))
}
