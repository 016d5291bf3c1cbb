//! A problem as an HTTP response (RFC 9457). The edge only; what a 500 would say of the inside stays inside.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mesh_types::{Code, Problem};

/// `application/problem+json`, with `Retry-After` where the problem names a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProblemResponse(pub Problem);

impl From<Problem> for ProblemResponse {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for ProblemResponse {
    fn into_response(self) -> Response {
        let problem = redacted(self.0);
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after_seconds = problem.retry_after_seconds;
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Logs what is hidden, so that the request id leads to it.
fn redacted(mut problem: Problem) -> Problem {
    if problem.is(Code::Internal) {
        tracing::error!(
            request_id = problem.request_id,
            detail = problem.detail,
            "answered an internal error"
        );
        problem.detail = "The mesh made a mistake; its log has the cause under this request id.".to_owned();
        problem.field = None;
    }
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(response: Response) -> serde_json::Value {
        let bytes = axum::body::to_bytes(response.into_body(), 64 * 1024).await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[tokio::test]
    async fn a_problem_is_a_problem_document() {
        let problem = Problem::new(Code::AgentNotFound, "no agent `x`")
            .field("agent")
            .next("mesh get agents");
        let response = ProblemResponse(problem).into_response();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
        let body = body(response).await;
        assert_eq!(body["type"], "registry/agent-not-found");
        assert_eq!(body["detail"], "no agent `x`");
        assert_eq!(body["field"], "agent");
    }

    #[tokio::test]
    async fn busy_says_when_to_come_back() {
        let mut problem = Problem::new(Code::Busy, "1000 invocations wait");
        problem.retry_after_seconds = Some(7);
        let response = ProblemResponse(problem).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "7");
    }

    #[tokio::test]
    async fn an_internal_error_keeps_its_detail_inside() {
        let problem = Problem::new(Code::Internal, "relation registry.agent does not exist");
        let body = body(ProblemResponse(problem).into_response()).await;
        assert_eq!(body["status"], 500);
        assert!(!body.to_string().contains("relation"), "{body}");
    }

    #[tokio::test]
    async fn a_status_that_is_none_becomes_500() {
        let mut problem = Problem::new(Code::Busy, "x");
        problem.status = 7;
        assert_eq!(
            ProblemResponse(problem).into_response().status(),
            StatusCode::INTERNAL_SERVER_ERROR
        );
    }
}
