//! What the fake providers share: a server on a free port of this machine that keeps what it was asked, and bodies that
//! come in pieces as small as they can be.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use serde_json::Value;

/// One request that came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// All of them, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Asked>>>);

impl Log {
    /// How often this model was asked for, with this time.
    pub(crate) fn add(&self, path: &str, headers: &HeaderMap, body: &Value) -> usize {
        self.0.lock().unwrap().push(Asked {
            path: path.to_owned(),
            headers: headers.clone(),
            body: body.clone(),
        });
        self.of(body["model"].as_str().unwrap_or_default()).len()
    }

    pub(crate) fn of(&self, model: &str) -> Vec<Asked> {
        let log = self.0.lock().unwrap();
        log.iter()
            .filter(|asked| asked.body["model"] == model)
            .cloned()
            .collect()
    }

    pub(crate) fn at(&self, path: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|asked| asked.path == path).count()
    }
}

/// Serves until the test's runtime ends; answers the URL without a path.
pub(crate) async fn serve(app: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    format!("http://{address}")
}

/// The body in pieces of five bytes, across lines and letters.
pub(crate) fn streamed(media_type: &'static str, body: &str) -> Response {
    respond(media_type, pieces(body))
}

/// The body, and then the same few bytes again and again: a connection that is alive and says nothing.
pub(crate) fn kept_alive(media_type: &'static str, body: &str, ping: &'static str) -> Response {
    let pings = futures::stream::unfold((), move |()| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((Ok(Bytes::from_static(ping.as_bytes())), ()))
    });
    respond(media_type, pieces(body).chain(pings))
}

fn pieces(body: &str) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
    let pieces: Vec<_> = body
        .as_bytes()
        .chunks(5)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    futures::stream::iter(pieces)
}

fn respond(media_type: &'static str, body: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static) -> Response {
    ([("content-type", media_type)], Body::from_stream(body)).into_response()
}
