//! Errors at the edge: every answer of 400 and above is an RFC 9457 problem, rendered in one place.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mesh_types::{Code, NameError, Problem};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// What a handler fails with. The response carries it as an extension; [`render`] writes it, so that it has its
/// request id wherever it came from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure(pub(crate) Problem);

impl Failure {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }

    pub(crate) fn invalid(field: &str, detail: impl Into<String>) -> Self {
        Self(Problem::new(Code::InvalidRequest, detail).field(field))
    }

    #[must_use]
    pub(crate) fn next(self, what_to_do: &str) -> Self {
        Self(self.0.next(what_to_do))
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<NameError> for Failure {
    fn from(error: NameError) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status_of(&self.0);
        response.extensions_mut().insert(self.0);
        response
    }
}

fn status_of(problem: &Problem) -> StatusCode {
    // A status that is no error would turn a problem into a success.
    StatusCode::from_u16(problem.status)
        .ok()
        .filter(|status| status.is_client_error() || status.is_server_error())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Writes the body of a failed answer: the problem a handler gave, or one for the bare status that a layer gave.
/// Answers that explain themselves in JSON (`/health`) stay as they are.
pub(crate) fn render(
    mut response: Response,
    method: &str,
    path: &str,
    request_id: &str,
) -> (Response, Option<Problem>) {
    let status = response.status();
    let problem = match response.extensions_mut().remove::<Problem>() {
        Some(problem) => problem,
        None if (status.is_client_error() || status.is_server_error()) && !is_json(&response) => {
            from_status(&response, method, path)
        }
        None => return (response, None),
    };
    let problem = Problem {
        request_id: Some(request_id.to_owned()),
        status: status_of(&problem).as_u16(),
        ..redact(problem)
    };
    let openai = super::openai::error_body(path, &problem);
    let body = openai
        .as_ref()
        .map_or_else(|| serde_json::to_vec(&problem), serde_json::to_vec);
    let body = body.expect("a problem is plain data");
    let mut rendered = Response::new(Body::from(body));
    *rendered.status_mut() = status_of(&problem);
    // `Allow` of a 405, rate limits and the like stay; what described the old body does not.
    for (name, value) in response.headers() {
        if ![header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING].contains(name) {
            rendered.headers_mut().append(name.clone(), value.clone());
        }
    }
    let kind = if openai.is_some() { JSON } else { PROBLEM_JSON };
    rendered.headers_mut().insert(header::CONTENT_TYPE, kind);
    if let Some(seconds) = problem.retry_after_seconds {
        rendered
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    (rendered, Some(problem))
}

fn is_json(response: &Response) -> bool {
    let kind = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    kind.starts_with("application/json") || kind.starts_with("application/problem+json")
}

fn from_status(response: &Response, method: &str, path: &str) -> Problem {
    let header = |name: HeaderName| {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    match response.status() {
        StatusCode::NOT_FOUND => route_not_found(path),
        StatusCode::METHOD_NOT_ALLOWED => {
            let detail = format!("{path} does not take {method}");
            let problem = Problem::new(Code::MethodNotAllowed, detail);
            match header(header::ALLOW) {
                "" => problem,
                allowed => problem.next(format!("use {allowed}")),
            }
        }
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(Code::BodyTooLarge, "the body is over the limit"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::new(Code::UnsupportedMediaType, "send JSON"),
        StatusCode::REQUEST_TIMEOUT => Problem::new(Code::RequestTimeout, "the request did not arrive in time"),
        StatusCode::GATEWAY_TIMEOUT => {
            Problem::new(Code::Timeout, "no answer in time; whether it was done is not known")
        }
        status if status.is_client_error() => {
            let reason = status.canonical_reason().unwrap_or("refused");
            Problem {
                status: status.as_u16(),
                ..Problem::new(Code::InvalidRequest, reason)
            }
        }
        status => Problem {
            status: status.as_u16(),
            ..Problem::new(Code::Internal, "something failed inside")
        },
    }
}

/// What the fallback answers too.
pub(crate) fn route_not_found(path: &str) -> Problem {
    let shown: String = path.chars().take(120).collect();
    Problem::new(Code::RouteNotFound, format!("there is no {shown}")).next("GET /docs lists every route")
}

/// Nothing of the inside leaves with a 500, whoever made it.
fn redact(problem: Problem) -> Problem {
    if !problem.is(Code::Internal) || problem.detail.starts_with("the service `") {
        return problem;
    }
    Problem {
        detail: "something failed inside; the log says why under this request id".into(),
        ..problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_of(response: Response) -> serde_json::Value {
        let bytes = futures::executor::block_on(axum::body::to_bytes(response.into_body(), 100_000)).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn a_failure_is_a_problem_document_with_its_request_id() {
        let failure = Failure::new(Code::Busy, "too much waits").into_response();
        let (response, _) = render(failure, "GET", "/x", "req_1");
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["retry-after"], "1");
        let body = body_of(response);
        assert_eq!(
            (body["type"].as_str(), body["request_id"].as_str()),
            (Some("mesh/busy"), Some("req_1"))
        );
    }

    #[test]
    fn a_bare_status_becomes_a_problem_and_keeps_what_it_allows() {
        let bare = (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET,HEAD")], "no").into_response();
        let (response, _) = render(bare, "PATCH", "/api/v1/agents", "r");
        assert_eq!(response.headers()["allow"], "GET,HEAD");
        let body = body_of(response);
        assert_eq!(body["type"], "mesh/method-not-allowed");
        assert_eq!(body["next"], "use GET,HEAD");
    }

    #[test]
    fn an_answer_that_explains_itself_stays() {
        let health = (
            StatusCode::SERVICE_UNAVAILABLE,
            axum::Json(serde_json::json!({"status": "down"})),
        )
            .into_response();
        let (response, problem) = render(health, "GET", "/health", "r");
        assert!(problem.is_none());
        assert_eq!(body_of(response)["status"], "down");
    }

    #[test]
    fn nothing_of_the_inside_leaves_with_a_500() {
        let failure = Failure::new(Code::Internal, "password authentication failed for mesh_registry").into_response();
        let (response, _) = render(failure, "GET", "/x", "r");
        assert!(!body_of(response).to_string().contains("password"));
    }

    #[test]
    fn a_problem_never_leaves_as_a_success() {
        let lying = Failure(Problem {
            status: 200,
            ..Problem::new(Code::Conflict, "x")
        })
        .into_response();
        let (response, _) = render(lying, "GET", "/x", "r");
        assert_eq!(response.status(), 500);
    }
}
