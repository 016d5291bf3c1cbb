//! What happens around every request: its id, its log line, the guard against other pages, problems for all errors.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use mesh_trace::{Incoming, Kind, Span, Way};
use mesh_types::{Code, RequestId};
use tracing::Instrument;

use super::problem::{Failure, render};
use crate::state::App;

/// The only routes that a cookie is sent to.
const SIGN_IN: &str = "/api/v1/auth/";
pub(crate) const REQUEST_ID_HEADER: &str = "x-request-id";

/// The id of a request: ours for the inside, the client's own (if it is harmless) to show.
#[derive(Debug, Clone)]
pub(crate) struct RequestIdentity {
    pub(crate) id: RequestId,
    pub(crate) shown: String,
}

impl RequestIdentity {
    fn of(headers: &HeaderMap, app: &App) -> Self {
        let theirs = headers
            .get(REQUEST_ID_HEADER)
            .and_then(|value| value.to_str().ok())
            .filter(|text| is_harmless(text));
        let id = theirs
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| app.ids.next());
        Self {
            id,
            shown: theirs.map_or_else(|| id.to_string(), str::to_owned),
        }
    }
}

/// Short and without characters that would mean something in a log or in HTML.
fn is_harmless(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.:+/=@".contains(&b))
}

/// The outermost layer but CORS: names the request, logs its end once, and renders what failed as a problem.
pub(crate) async fn around(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let identity = RequestIdentity::of(request.headers(), &app);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    request.extensions_mut().insert(identity.clone());
    // The pattern, not the path: labels stay few.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |route| route.as_str().to_owned());
    let started = app.clock.monotonic();
    let span = tracing::info_span!("http", mesh.service = "gateway", %method, path, request_id = identity.shown);
    let mut trace = traced(&method, &route, request.headers());
    let response = trace.run(next.run(request).instrument(span.clone())).await;
    let (mut response, problem) = render(response, method.as_str(), &path, &identity.shown);
    if let Ok(value) = HeaderValue::from_str(&identity.shown) {
        response.headers_mut().insert(REQUEST_ID_HEADER, value);
    }
    let elapsed = app.clock.monotonic().saturating_sub(started);
    app.requests.add(
        1,
        &[
            ("route", &route),
            ("method", method_label(&method)),
            ("status", response.status().as_str()),
        ],
    );
    let status = response.status().as_u16();
    trace.set("http.response.status_code", status);
    if status >= 500 {
        trace.fail(response.status().as_str());
    }
    app.durations.record_in(
        trace.context(),
        elapsed.as_secs_f64(),
        &[("route", &route), ("method", method_label(&method))],
    );
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    trace.enter(|| {
        let _inside = span.enter();
        match problem {
            Some(problem) if status >= 500 => {
                tracing::warn!(
                    status,
                    elapsed_ms,
                    kind = problem.kind,
                    detail = problem.detail,
                    "request failed"
                );
            }
            Some(problem) => {
                tracing::debug!(
                    status,
                    elapsed_ms,
                    kind = problem.kind,
                    detail = problem.detail,
                    "request refused"
                );
            }
            None => tracing::debug!(status, elapsed_ms, "request answered"),
        }
    });
    response
}

/// A span of every request that asks the mesh for something; pages, files and probes ask for nothing. Its path stays
/// out of it: what stands there is the caller's.
fn traced(method: &Method, route: &str, headers: &HeaderMap) -> Span {
    let is_asked = ["/api/", "/v1/", "/internal/", "/mcp", "/a2a"]
        .iter()
        .any(|prefix| route.starts_with(prefix));
    if !is_asked {
        return Span::none();
    }
    let parent = headers
        .get(mesh_trace::TRACEPARENT)
        .and_then(|value| value.to_str().ok());
    let states = headers.get_all(mesh_trace::TRACESTATE).iter();
    let said = Incoming::new(parent, states.filter_map(|value| value.to_str().ok()));
    let way = if method.is_safe() { Way::Read } else { Way::Write };
    let label = method_label(method);
    let mut span = Span::edge(&said, mesh_trace::trace_id, way, Kind::Server, || {
        format!("{label} {route}")
    });
    span.set("http.request.method", if label == "other" { "_OTHER" } else { label });
    span.set("http.route", route);
    // This runs on the server's own tasks, which are inside of no service's.
    span.set("mesh.service", "gateway");
    span
}

/// Methods are free text in HTTP; labels are not.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// Without sign-in the only protection is that this machine alone can ask. A browser would carry other pages'
/// requests here, so a request must be addressed to this machine by name (against DNS rebinding), and one that
/// changes something must not come from a foreign page.
pub(crate) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    let checked = if !app.desk.requires_credentials() {
        refuse_foreign(&app, method, uri, headers)
    } else if uri.path().starts_with(SIGN_IN) {
        refuse_foreign_page(&app, method, host_of(uri, headers), headers)
    } else {
        // Where each request carries its own credential, no page can send one for somebody else.
        Ok(())
    };
    match checked {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

fn refuse_foreign(app: &App, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    let host = host_of(uri, headers);
    if host.is_some_and(|host| !is_this_machine(host, &app.allowed_hosts)) {
        return Err(Failure::new(
            Code::Forbidden,
            "in development mode only requests to localhost are taken",
        )
        .next("use http://localhost or http://127.0.0.1, or name the host in gateway.allowed_hosts"));
    }
    refuse_foreign_page(app, method, host, headers)
}

fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    match headers.get(header::HOST) {
        Some(value) => value.to_str().ok(),
        None => uri.authority().map(axum::http::uri::Authority::as_str),
    }
}

fn refuse_foreign_page(app: &App, method: &Method, host: Option<&str>, headers: &HeaderMap) -> Result<(), Failure> {
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) {
        return Ok(());
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or_default();
    let is_ours = origin.split_once("://").map(|(_, authority)| Some(authority) == host) == Some(true);
    if is_ours || app.cors_origins.iter().any(|allowed| allowed == origin) {
        return Ok(());
    }
    Err(
        Failure::new(Code::Forbidden, "another page's request would change something here")
            .next("name its origin in gateway.cors_origins (CORS_ORIGINS)"),
    )
}

fn is_this_machine(host: &str, allowed: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        || allowed.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered() {
        let allowed = ["mesh.test".to_owned()];
        for host in [
            "localhost",
            "LOCALHOST:8000",
            "127.0.0.1:8000",
            "[::1]:8000",
            "[::1]",
            "a.localhost",
            "mesh.test:1",
        ] {
            assert!(is_this_machine(host, &allowed), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8000",
            "127.0.0.1.evil.example",
            "192.168.1.2",
            "localhost.evil",
            "",
        ] {
            assert!(!is_this_machine(host, &allowed), "{host}");
        }
    }

    #[test]
    fn a_request_id_is_echoed_only_if_it_is_harmless() {
        for text in ["req_01ARZ3NDEKTSV4RRFFQ69G5FAV", "a-b.c:d/e=f@g"] {
            assert!(is_harmless(text), "{text}");
        }
        for text in ["", "a b", "<script>", "a\"b", &"x".repeat(129)] {
            assert!(!is_harmless(text), "{text}");
        }
    }
}
