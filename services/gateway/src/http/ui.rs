//! The web UI: built files of `ui/dist`, embedded in a release and read from disk in a debug build. Paths of pages get
//! `index.html`, paths of the API never do. Without a build: a page that says how to make one.

mod file;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use mesh_types::{IdSource, RequestId};
use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};

use super::problem::{self, Failure};

#[derive(RustEmbed)]
#[folder = "ui/dist"]
#[allow_missing = true]
struct Built;

/// What `index.html` has where the nonce of a response goes; Mantine and CodeMirror put it on the styles they make.
const NONCE_PLACE: &str = r#"<meta name="style-nonce" content="""#;
/// Their names hold a hash of their content.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const ASK_FIRST: HeaderValue = HeaderValue::from_static("no-cache");
/// Each answer has a nonce of its own, so none is kept.
const NEVER: HeaderValue = HeaderValue::from_static("no-store");

pub(super) fn router(ids: IdSource) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/sign-in", get(page))
        .route("/t", get(page))
        .route("/t/{*path}", get(page))
        .route("/icon.svg", get(root_file))
        .route("/assets/{*path}", get(asset))
        .with_state(ids)
}

async fn page(State(ids): State<IdSource>) -> Response {
    let built = Built::get("index.html").map(|file| file.data);
    render(built.as_deref(), &nonce(&ids))
}

async fn asset(Path(path): Path<String>, headers: HeaderMap, uri: Uri) -> Result<Response, Failure> {
    file::answer(&format!("assets/{path}"), &headers, FOR_EVER)
        .ok_or_else(|| Failure(problem::route_not_found(uri.path())))
}

async fn root_file(headers: HeaderMap, uri: Uri) -> Result<Response, Failure> {
    file::answer(uri.path().trim_start_matches('/'), &headers, ASK_FIRST)
        .ok_or_else(|| Failure(problem::route_not_found(uri.path())))
}

/// 128 bits that nobody can guess: of the randomness of two ids.
fn nonce(ids: &IdSource) -> String {
    let (one, other): (RequestId, RequestId) = (ids.next(), ids.next());
    let digest = Sha256::digest(format!("{one} {other}"));
    STANDARD_NO_PAD.encode(&digest[..16])
}

/// The page, or the one that says how to build it, under a policy that lets only its own files and its nonce's styles in.
fn render(index: Option<&[u8]>, nonce: &str) -> Response {
    let html = match index.and_then(|bytes| std::str::from_utf8(bytes).ok()) {
        Some(text) => text.replacen(
            NONCE_PLACE,
            &format!(r#"<meta name="style-nonce" content="{nonce}""#),
            1,
        ),
        None => UNBUILT.replacen("<style>", &format!(r#"<style nonce="{nonce}">"#), 1),
    };
    let mut response = Html(html).into_response();
    let headers = response.headers_mut();
    let policy = HeaderValue::from_str(&policy(nonce)).expect("base64 is visible ASCII");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::CACHE_CONTROL, NEVER);
    for (name, value) in PAGE_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; font-src 'self'; connect-src 'self'; \
         worker-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
}

const PAGE_HEADERS: [(HeaderName, &str); 4] = [
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    ),
];

/// The bytes of an embedded file and, of text, the ones that were packed when it was built.
fn bytes_of(path: &str) -> Option<Cow<'static, [u8]>> {
    Built::get(path).map(|file| file.data)
}

const UNBUILT: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Agent Mesh</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem; color: #15181c; background: #f6f7f9 }
a { color: #1a5cc0 } code, pre { background: #fff; padding: .1em .3em; border-radius: 4px } dt { font-weight: 600; margin-top: .8rem }
@media (prefers-color-scheme: dark) { body { color: #e7eaee; background: #0f1216 } a { color: #7fb3ff } code, pre { background: #161a20 } }
</style>
</head>
<body>
<h1>Agent Mesh</h1>
<p>The mesh is up. Its web UI is not in this binary, which was built without Node. To build both:</p>
<pre><code>cd services/gateway/ui
npm ci
npm run build
cd -
cargo build --release</code></pre>
<p><code>cargo xtask up</code> does all of it. Without the web UI there are:</p>
<dl>
<dt>the command line</dt><dd><code>mesh --help</code></dd>
<dt><a href="/docs/">the API, to read and to try</a></dt><dd>every route with its shapes (<a href="/api/v1/openapi.json">OpenAPI 3.1</a>)</dd>
<dt><a href="/health">health</a></dt><dd>and <a href="/readyz">readiness</a>, <a href="/metrics">metrics</a></dd>
</dl>
</body>
</html>
"#;
