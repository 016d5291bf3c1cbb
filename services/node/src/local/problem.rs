//! Errors of the local API: problem documents, as everywhere in the mesh.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use mesh_types::{Code, Problem};
use serde::de::DeserializeOwned;

/// What a handler fails with.
#[derive(Debug)]
pub(super) struct Failure(pub(super) Problem);

impl Failure {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }

    #[must_use]
    pub(super) fn next(self, what_to_do: &str) -> Self {
        Self(self.0.next(what_to_do))
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = self.0;
        if problem.status >= 500 {
            tracing::warn!(
                kind = problem.kind,
                detail = problem.detail,
                "a request at the node's page failed"
            );
        }
        // A status that is no error would turn a problem into a success.
        let status = StatusCode::from_u16(problem.status)
            .ok()
            .filter(|status| status.is_client_error() || status.is_server_error())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&problem).expect("a problem is plain data");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = problem.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

pub(super) async fn no_route(uri: Uri) -> Failure {
    let shown: String = uri.path().chars().take(120).collect();
    Failure::new(Code::RouteNotFound, format!("there is no {shown} on a node"))
}

pub(super) async fn no_method(method: Method, uri: Uri) -> Failure {
    let shown: String = uri.path().chars().take(120).collect();
    Failure::new(Code::MethodNotAllowed, format!("{shown} does not take {method}"))
}

/// A body as JSON, whatever it is called; a page of another origin cannot send it, see [`super::access`].
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let bytes = Bytes::from_request(request, state).await.map_err(unread)?;
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Self(value)),
            Err(error) if error.is_data() => Err(Failure::new(Code::InvalidRequest, error.to_string())),
            Err(error) => Err(Failure::new(Code::MalformedJson, error.to_string())),
        }
    }
}

fn unread(rejection: BytesRejection) -> Failure {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let detail = format!("more than {} bytes", super::BODY_BYTES_MAX);
        return Failure::new(Code::BodyTooLarge, detail);
    }
    Failure::new(Code::InvalidRequest, "the body did not arrive")
}
