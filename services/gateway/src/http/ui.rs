//! `/`: a page that says where things are, until the web UI is built in.

use axum::Router;
use axum::response::Html;
use axum::routing::get;

pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(async || Html(PAGE)))
}

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Agent Mesh</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem; color: #1b1f24; background: #fff }
a { color: #0b5fff } code { background: #f2f4f7; padding: .1em .3em; border-radius: 4px } dt { font-weight: 600; margin-top: .8rem }
@media (prefers-color-scheme: dark) { body { color: #e6e8eb; background: #14171a } a { color: #8ab4ff } code { background: #22272e } }
</style>
</head>
<body>
<h1>Agent Mesh</h1>
<p>The mesh is up. This is development mode: nobody signs in, and only this machine is answered.</p>
<dl>
<dt><a href="/docs/">API, to read and to try</a></dt><dd>every route with its shapes (<a href="/api/v1/openapi.json">OpenAPI 3.1</a>)</dd>
<dt><a href="/api/v1/agents">Agents</a></dt><dd>declared in tenant <code>default</code>; another one with the header <code>Mesh-Tenant</code></dd>
<dt><a href="/api/v1/invocations">Invocations</a></dt><dd>newest first (<a href="/api/v1/invocations/counts">counted by state</a>)</dd>
<dt><a href="/api/v1/dead-letters">Dead letters</a></dt><dd>what could not be handled, with the reason</dd>
<dt><a href="/api/v1/models">Models</a></dt><dd>that agents can name</dd>
<dt><a href="/health">Health</a></dt><dd>and <a href="/readyz">readiness</a>, <a href="/metrics">metrics</a></dd>
</dl>
</body>
</html>
"#;
