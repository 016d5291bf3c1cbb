//! The page, built into the program, and the headers that keep everything else out of it.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};

const INDEX: &str = include_str!("page/index.html");
const SCRIPT: &str = include_str!("page/page.js");
const API: &str = include_str!("page/api.js");
const CHAT: &str = include_str!("page/chat.js");
const STYLE: &str = include_str!("page/page.css");

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Nothing is fetched from anywhere else, and nobody frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) async fn index() -> Html<&'static str> {
    Html(INDEX)
}

pub(super) async fn script() -> Response {
    typed(JAVASCRIPT, SCRIPT)
}

pub(super) async fn api() -> Response {
    typed(JAVASCRIPT, API)
}

pub(super) async fn chat() -> Response {
    typed(JAVASCRIPT, CHAT)
}

pub(super) async fn style() -> Response {
    typed("text/css; charset=utf-8", STYLE)
}

fn typed(kind: &'static str, body: &'static str) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], body).into_response()
}

/// Around every answer.
pub(super) async fn with_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let stored = HeaderValue::from_static("no-store");
    headers.entry(header::CACHE_CONTROL).or_insert(stored);
    response
}
