//! One provider's server over HTTP: its key, its waits, its errors in words that hold no key. No wire in here.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use mesh_runtime::Secret;
use mesh_trace::Place;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::Waits;
use crate::answer::TryError;
use crate::retry_after::retry_after;

/// Longest error body that is read, in bytes.
const ERROR_BODY_BYTES_MAX: usize = 16 * 1024;
/// Longest text of a provider that an error quotes, in characters.
const ERROR_CHARACTERS_MAX: usize = 300;

/// Where the key goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KeyHeader {
    /// `Authorization: Bearer …`
    Bearer,
    /// A header of its own.
    Named(&'static str),
}

/// A client of one base URL.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    http: reqwest::Client,
    base: Url,
    key: Option<(KeyHeader, Secret<String>)>,
    waits: Waits,
}

impl Server {
    /// # Errors
    /// The TLS roots of the machine cannot be read.
    pub(crate) fn new(
        base: &Url,
        key_header: KeyHeader,
        key: Option<Secret<String>>,
        waits: Waits,
    ) -> Result<Self, reqwest::Error> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(waits.connect)
            // A redirect would carry the prompt to a place nobody configured.
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(base) {
            builder = builder.no_proxy();
        }
        let key = key.map(|key| Secret::new(key.expose().trim().to_owned()));
        Ok(Self {
            http: builder.build()?,
            base: base.clone(),
            key: key.filter(|key| !key.is_empty()).map(|key| (key_header, key)),
            waits,
        })
    }

    pub(crate) fn waits(&self) -> &Waits {
        &self.waits
    }

    /// A request at `path` under the base URL; its query is kept, as some gateways name their version there.
    fn request(&self, method: Method, path: &str, query: &[(&str, &str)]) -> Result<RequestBuilder, TryError> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url);
        let Some((header, key)) = &self.key else {
            return Ok(request);
        };
        let (name, value) = match header {
            KeyHeader::Bearer => (AUTHORIZATION, format!("Bearer {}", key.expose())),
            KeyHeader::Named(name) => (HeaderName::from_static(name), key.expose().clone()),
        };
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| TryError::Unsupported("its API key has characters that no header takes".to_owned()))?;
        value.set_sensitive(true);
        Ok(request.header(name, value))
    }

    pub(crate) fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<RequestBuilder, TryError> {
        self.request(Method::GET, path, query)
    }

    pub(crate) fn post(&self, path: &str, body: Vec<u8>) -> Result<RequestBuilder, TryError> {
        let mut request = self.request(Method::POST, path, &[])?;
        // Ids only; a gateway in front of models goes on with the trace.
        for (name, value) in mesh_trace::current_place().iter().flat_map(Place::headers) {
            request = request.header(name, value);
        }
        Ok(request.header(CONTENT_TYPE, "application/json").body(body))
    }

    /// Answers once the status says success.
    pub(crate) async fn send(&self, request: RequestBuilder, by: Instant) -> Result<Response, TryError> {
        let response = timeout_at(by, request.send())
            .await
            .map_err(|_| TryError::Timeout("the provider sent nothing"))?
            .map_err(|error| self.clean(connection_error(&error)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.status_error(response, by).await)
    }

    /// The body as it comes; ends with an error at a byte too many or a broken connection.
    pub(crate) fn bytes(&self, response: Response) -> impl Stream<Item = Result<Bytes, TryError>> + use<> {
        let limit = self.waits.response_bytes_max;
        let mut read = 0_usize;
        response.bytes_stream().map(move |piece| {
            let piece = piece.map_err(|error| connection_error(&error))?;
            read = read.saturating_add(piece.len());
            if read > limit {
                return Err(TryError::TooLarge(limit));
            }
            Ok(piece)
        })
    }

    /// The whole body, of at most `bytes_max`; the first byte by `by`, no pause above [`Waits::idle`].
    pub(crate) async fn document(
        &self,
        mut response: Response,
        by: Instant,
        bytes_max: usize,
    ) -> Result<Vec<u8>, TryError> {
        let mut document = Vec::new();
        let mut by = by;
        loop {
            let piece = match timeout_at(by, response.chunk()).await {
                Err(_) if document.is_empty() => return Err(TryError::Timeout("the provider sent nothing")),
                Err(_) => return Err(TryError::Timeout("the provider fell silent")),
                Ok(Err(error)) => return Err(connection_error(&error)),
                Ok(Ok(None)) => return Ok(document),
                Ok(Ok(Some(piece))) => piece,
            };
            document.extend_from_slice(&piece);
            if document.len() > bytes_max {
                return Err(TryError::TooLarge(bytes_max));
            }
            by = Instant::now() + self.waits.idle;
        }
    }

    /// Asks for a document of JSON and reads it as `T`.
    pub(crate) async fn json<T: serde::de::DeserializeOwned>(
        &self,
        request: RequestBuilder,
        patience: Duration,
        bytes_max: usize,
    ) -> Result<T, TryError> {
        let by = Instant::now() + patience;
        let response = self.send(request, by).await?;
        let document = self.document(response, by, bytes_max).await?;
        serde_json::from_slice(&document).map_err(|error| {
            self.clean(TryError::Protocol(format!(
                "its answer is not what was asked for: {error}"
            )))
        })
    }

    async fn status_error(&self, response: Response, by: Instant) -> TryError {
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers());
        self.clean(TryError::Status {
            status,
            message: error_text(response, by).await,
            retry_after,
        })
    }

    /// The error without our key, whoever wrote it, and short.
    pub(crate) fn clean(&self, error: TryError) -> TryError {
        match error {
            // Providers quote parts of the key in these two; nothing of it may reach a journal.
            TryError::Status {
                status: status @ (401 | 403),
                retry_after,
                ..
            } => TryError::Status {
                status,
                message: "the provider does not take the API key".to_owned(),
                retry_after,
            },
            TryError::Status {
                status,
                message,
                retry_after,
            } => TryError::Status {
                status,
                message: self.without_key(message),
                retry_after,
            },
            TryError::Protocol(text) => TryError::Protocol(self.without_key(text)),
            TryError::Connection(text) => TryError::Connection(self.without_key(text)),
            other => other,
        }
    }

    /// The key goes before the rest is cut off, or half of it would stay.
    fn without_key(&self, text: String) -> String {
        let text = match &self.key {
            Some((_, key)) => text.replace(key.expose().as_str(), "***"),
            None => text,
        };
        let shown = text.chars().filter(|character| !character.is_control());
        shown.take(ERROR_CHARACTERS_MAX).collect()
    }
}

/// The media type of a body, without its parameters.
pub(crate) fn media_type(response: &Response) -> &str {
    let kind = response.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim()
}

/// An answer of a media type that is none of the wire's.
pub(crate) fn not_a_stream(kind: &str) -> TryError {
    let kind: String = kind.chars().take(60).collect();
    TryError::Protocol(format!("its answer is `{kind}`, not a stream of events"))
}

async fn error_text(mut response: Response, by: Instant) -> String {
    let mut body = Vec::new();
    while let Ok(Ok(Some(bytes))) = timeout_at(by, response.chunk()).await {
        body.extend_from_slice(&bytes[..bytes.len().min(ERROR_BODY_BYTES_MAX - body.len())]);
        if body.len() == ERROR_BODY_BYTES_MAX {
            break;
        }
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    error_message(&value)
}

/// The text of `{"error":{"message":…}}`, `{"error":"…"}` or whatever came; [`Server::clean`] shortens it.
pub(crate) fn error_message(value: &Value) -> String {
    let inner = value.get("error").unwrap_or(value);
    let text = inner.get("message").unwrap_or(inner);
    text.as_str().map_or_else(|| text.to_string(), str::to_owned)
}

/// Says what broke without the URL, which may hold user and password.
fn connection_error(error: &reqwest::Error) -> TryError {
    if error.is_timeout() {
        return TryError::Timeout("the connection was not made");
    }
    let what = if error.is_connect() {
        "the provider cannot be reached"
    } else if error.is_body() || error.is_decode() {
        return TryError::Cut;
    } else {
        "the request failed on its way"
    };
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    TryError::Connection(format!("{what}: {cause}"))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_the_trace_of_the_call_with_what_its_caller_wants_carried() {
        let base = Url::parse("http://127.0.0.1:1/v1").unwrap();
        let waits = Waits {
            connect: Duration::from_secs(1),
            first_byte: Duration::from_secs(1),
            idle: Duration::from_secs(1),
            response_bytes_max: 1,
        };
        let server = Server::new(&base, KeyHeader::Bearer, None, waits).unwrap();
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let place: Place = format!("{parent} other=1").parse().unwrap();
        let post = || server.post("/chat", Vec::new()).unwrap().build().unwrap();
        let asked = mesh_trace::enter(Some(place), post);
        assert_eq!(
            (&asked.headers()["traceparent"], &asked.headers()["tracestate"]),
            (&parent.parse().unwrap(), &"other=1".parse().unwrap())
        );
        assert!(!post().headers().contains_key("traceparent"));
    }
}
