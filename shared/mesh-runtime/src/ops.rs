//! The routes of operation: `/health`, `/livez`, `/readyz`, `/metrics`. The same for every service.

use std::net::SocketAddr;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::context::Context;
use crate::health::Health;
use crate::metrics::{Metrics, openmetrics};

#[derive(Clone)]
struct Ops {
    health: Health,
    metrics: Metrics,
    service: &'static str,
    version: &'static str,
}

/// Body of `/health`; the same shape when something is missing, with status 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthBody {
    /// `ok` or `unavailable`.
    pub status: String,
    pub service: String,
    pub version: String,
    pub nats_connected: bool,
    pub database_connected: bool,
}

/// Body of `/readyz`: names of what is missing, without reasons (those are in the log).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyBody {
    /// `ready`, `draining` or `unavailable`.
    pub status: String,
    /// `<service>.<probe>`.
    pub failing: Vec<String>,
}

/// A router without state, to be merged into a larger one or served alone.
pub fn router(health: Health, metrics: Metrics, service: &'static str, version: &'static str) -> Router {
    Router::new()
        .route("/health", get(health_of))
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(Ops {
            health,
            metrics,
            service,
            version,
        })
}

/// Serves the routes at `listener` until the context's shutdown; for services without HTTP of their own.
pub async fn serve(context: &Context, listener: TcpListener, version: &'static str) -> std::io::Result<()> {
    let router = router(
        context.health.clone(),
        context.metrics.clone(),
        context.service,
        version,
    );
    let shutdown = context.shutdown.clone();
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

/// Binds and then serves as a task of the context; returns the address, so that port 0 works.
pub async fn spawn(context: &Context, address: SocketAddr, version: &'static str) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let served = context.clone();
    context.tasks.spawn("ops", async move {
        if let Err(error) = serve(&served, listener, version).await {
            tracing::error!(%error, "the operation routes ended");
        }
    });
    Ok(bound)
}

async fn health_of(State(ops): State<Ops>) -> Response {
    let report = ops.health.check().await;
    let (code, status) = match report.is_ok() {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let body = HealthBody {
        status: status.to_owned(),
        service: ops.service.to_owned(),
        version: ops.version.to_owned(),
        nats_connected: report.nats_connected(),
        database_connected: report.database_connected(),
    };
    (code, Json(body)).into_response()
}

async fn ready(State(ops): State<Ops>) -> Response {
    let report = ops.health.check().await;
    let (code, status) = match (report.is_ok(), report.draining) {
        (true, false) => (StatusCode::OK, "ready"),
        (true, true) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let failing = report
        .failing
        .iter()
        .map(|failing| format!("{}.{}", failing.service, failing.probe));
    (
        code,
        Json(ReadyBody {
            status: status.to_owned(),
            failing: failing.collect(),
        }),
    )
        .into_response()
}

/// In the format that whoever asks takes.
async fn metrics_text(State(ops): State<Ops>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(openmetrics::is_accepted) {
        let kind = [(header::CONTENT_TYPE, openmetrics::CONTENT_TYPE)];
        return (kind, ops.metrics.render_openmetrics()).into_response();
    }
    match ops.metrics.render() {
        Ok(text) => (
            [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
            text,
        )
            .into_response(),
        Err(error) => {
            tracing::error!(%error, cause = ?error, "could not write the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt;

    use super::*;
    use crate::health::{DATABASE, NATS};
    use crate::metrics::MetricName;

    async fn ask(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn mesh(shutdown: &CancellationToken) -> (Health, Metrics, Router) {
        let (health, metrics) = (Health::new("gateway", shutdown.clone()), Metrics::default());
        health.register_with(NATS, || async { Ok(()) });
        let router = router(health.clone(), metrics.clone(), "gateway", "0.1.0");
        (health, metrics, router)
    }

    #[tokio::test]
    async fn health_says_ok_in_the_contract_s_shape() {
        let (_, _, router) = mesh(&CancellationToken::new());
        let (status, body) = ask(&router, "/health").await;
        assert_eq!(status, StatusCode::OK);
        let expected =
            r#"{"status":"ok","service":"gateway","version":"0.1.0","nats_connected":true,"database_connected":true}"#;
        assert_eq!(body, expected);
        assert_eq!(
            ask(&router, "/readyz").await,
            (StatusCode::OK, r#"{"status":"ready","failing":[]}"#.to_owned())
        );
    }

    #[tokio::test]
    async fn a_failing_probe_makes_it_503_in_the_same_shape() {
        let (health, _, router) = mesh(&CancellationToken::new());
        health.register_with(DATABASE, || async { Err("password of mesh_registry".to_owned()) });
        let (status, body) = ask(&router, "/health").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let body: HealthBody = serde_json::from_str(&body).unwrap();
        assert_eq!(body.status, "unavailable");
        assert!(body.nats_connected && !body.database_connected);
        let (status, body) = ask(&router, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body, r#"{"status":"unavailable","failing":["gateway.database"]}"#);
        assert_eq!(ask(&router, "/livez").await, (StatusCode::OK, "ok".to_owned()));
    }

    #[tokio::test]
    async fn a_draining_process_is_healthy_but_not_ready() {
        let shutdown = CancellationToken::new();
        let (_, _, router) = mesh(&shutdown);
        shutdown.cancel();
        assert_eq!(ask(&router, "/health").await.0, StatusCode::OK);
        assert_eq!(ask(&router, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn metrics_are_prometheus_text() {
        let (_, metrics, router) = mesh(&CancellationToken::new());
        metrics
            .for_service("gateway")
            .gauge(MetricName::LiveConnections)
            .set(3, &[("kind", "sse")]);
        let (status, body) = ask(&router, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(
            body.contains(r#"mesh_live_connections{kind="sse",mesh_service="gateway"} 3"#),
            "{body}"
        );
        let request = Request::get("/metrics").header(header::ACCEPT, "application/openmetrics-text;version=1.0.0");
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], openmetrics::CONTENT_TYPE);
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        assert!(bytes.ends_with(b"\n# EOF\n"));
    }
}
