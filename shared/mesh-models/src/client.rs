//! Any server that speaks OpenAI's `/chat/completions`, asked for a stream, with a bound on every wait and on the size.

use std::time::Duration;

use bytes::Bytes;
use eventsource_stream::{EventStreamError, Eventsource};
use futures::{Stream, StreamExt, TryStreamExt};
use mesh_api::inference::Chunk;
use mesh_runtime::Secret;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::answer::{Answer, Chunks, Try, TryError};
use crate::{Waits, wire};

/// Longest error body that is read, in bytes.
const ERROR_BODY_BYTES_MAX: usize = 16 * 1024;
/// Longest wish of a provider for a pause that is honoured.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);

/// How a server answers: a stream was asked for, and not every server has one.
#[derive(Debug, Clone, Copy)]
enum Form {
    Events,
    Document,
}

/// A client of one base URL.
#[derive(Debug, Clone)]
pub struct OpenAi {
    http: reqwest::Client,
    url: Url,
    api_key: Option<Secret<String>>,
    waits: Waits,
}

impl OpenAi {
    /// `base` is the URL up to and without `/chat/completions`.
    ///
    /// # Errors
    /// The TLS roots of the machine cannot be read.
    pub fn new(base: &Url, api_key: Option<Secret<String>>, waits: Waits) -> Result<Self, reqwest::Error> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(waits.connect)
            // A redirect would carry the prompt to a place nobody configured.
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(base) {
            builder = builder.no_proxy();
        }
        let mut url = base.clone();
        let path = format!("{}/chat/completions", base.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(Self {
            http: builder.build()?,
            url,
            api_key,
            waits,
        })
    }

    /// One streamed call; text goes to `chunks` as it comes, the answer holds all of it.
    ///
    /// # Errors
    /// Whatever kept the answer from being whole.
    pub async fn attempt<C: Chunks>(&self, call: Try<'_>, chunks: &mut C) -> Result<Answer, TryError> {
        let first_byte_by = Instant::now() + self.waits.first_byte;
        let (form, response) = self.send(call, first_byte_by).await?;
        let bytes = bounded(response, &self.waits, first_byte_by);
        match form {
            Form::Events => self.read_events(bytes, chunks).await,
            Form::Document => self.read_document(bytes, chunks).await,
        }
    }

    async fn read_events<C: Chunks>(
        &self,
        bytes: impl Stream<Item = Result<Bytes, TryError>>,
        chunks: &mut C,
    ) -> Result<Answer, TryError> {
        let mut events = std::pin::pin!(bytes.eventsource());
        let mut assembly = wire::Assembly::default();
        while !assembly.is_done() {
            match events.next().await {
                Some(Ok(event)) => {
                    if let Some(text) = assembly.take(&event.data).map_err(|error| self.clean(error))? {
                        chunks.send(Chunk::Text(text)).await;
                    }
                }
                None => break,
                // Everything was said already; only the goodbye was lost.
                Some(Err(_)) if assembly.is_whole() => break,
                Some(Err(EventStreamError::Transport(error))) => return Err(error),
                Some(Err(error)) => return Err(TryError::Protocol(error.to_string())),
            }
        }
        assembly.end()
    }

    async fn read_document<C: Chunks>(
        &self,
        bytes: impl Stream<Item = Result<Bytes, TryError>>,
        chunks: &mut C,
    ) -> Result<Answer, TryError> {
        let document: Vec<u8> = bytes.map_ok(Vec::from).try_concat().await?;
        let mut assembly = wire::Assembly::default();
        if let Some(text) = assembly.take_whole(&document).map_err(|error| self.clean(error))? {
            chunks.send(Chunk::Text(text)).await;
        }
        assembly.end()
    }

    /// Answers once the status says success.
    async fn send(&self, call: Try<'_>, by: Instant) -> Result<(Form, reqwest::Response), TryError> {
        let mut request = self
            .http
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("accept", "text/event-stream")
            .body(wire::body(call.model, call.request)?);
        if let Some(key) = &self.api_key {
            request = request.bearer_auth(key.expose());
        }
        if let Some(key) = &call.request.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let response = timeout_at(by, request.send())
            .await
            .map_err(|_| TryError::Timeout("the provider sent nothing"))?
            .map_err(|error| connection_error(&error))?;
        if response.status().is_success() {
            let kind = response
                .headers()
                .get(CONTENT_TYPE)
                .and_then(|kind| kind.to_str().ok())
                .unwrap_or_default();
            return match kind.split(';').next().unwrap_or_default().trim() {
                "text/event-stream" => Ok((Form::Events, response)),
                "application/json" => Ok((Form::Document, response)),
                _ => Err(TryError::Protocol(format!(
                    "its answer is `{}`, not a stream of events",
                    shortened(kind)
                ))),
            };
        }
        Err(self.status_error(response, by).await)
    }

    async fn status_error(&self, response: reqwest::Response, by: Instant) -> TryError {
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers());
        // Providers quote parts of the key in these two; nothing of it may reach a journal.
        let message = if matches!(status, 401 | 403) {
            "the provider does not take the API key".to_owned()
        } else {
            self.without_key(error_text(response, by).await)
        };
        TryError::Status {
            status,
            message,
            retry_after,
        }
    }

    /// An error that a provider wrote into its stream, without our key.
    fn clean(&self, error: TryError) -> TryError {
        match error {
            TryError::Status {
                status,
                message,
                retry_after,
            } => TryError::Status {
                status,
                message: self.without_key(message),
                retry_after,
            },
            other => other,
        }
    }

    fn without_key(&self, text: String) -> String {
        match &self.api_key {
            Some(key) if !key.expose().is_empty() => text.replace(key.expose().as_str(), "***"),
            _ => text,
        }
    }
}

struct Reading<S> {
    bytes: S,
    read: usize,
    limit: usize,
    wait: Duration,
    next_by: Instant,
    is_over: bool,
}

/// The body's bytes; ends with an error at a pause too long, a byte too many or a broken connection.
fn bounded(
    response: reqwest::Response,
    waits: &Waits,
    first_byte_by: Instant,
) -> impl Stream<Item = Result<Bytes, TryError>> + use<> {
    let reading = Reading {
        bytes: response.bytes_stream(),
        read: 0,
        limit: waits.response_bytes_max,
        wait: waits.idle,
        next_by: first_byte_by,
        is_over: false,
    };
    futures::stream::unfold(reading, |mut reading| async move {
        if reading.is_over {
            return None;
        }
        let item = match timeout_at(reading.next_by, reading.bytes.next()).await {
            Err(_) if reading.read == 0 => Err(TryError::Timeout("the provider sent nothing")),
            Err(_) => Err(TryError::Timeout("the provider fell silent")),
            Ok(None) => return None,
            Ok(Some(Err(error))) => Err(connection_error(&error)),
            Ok(Some(Ok(bytes))) => {
                reading.read = reading.read.saturating_add(bytes.len());
                reading.next_by = Instant::now() + reading.wait;
                if reading.read > reading.limit {
                    Err(TryError::TooLarge(reading.limit))
                } else {
                    Ok(bytes)
                }
            }
        };
        reading.is_over = item.is_err();
        Some((item, reading))
    })
}

async fn error_text(mut response: reqwest::Response, by: Instant) -> String {
    let mut body = Vec::new();
    while let Ok(Ok(Some(bytes))) = timeout_at(by, response.chunk()).await {
        body.extend_from_slice(&bytes[..bytes.len().min(ERROR_BODY_BYTES_MAX - body.len())]);
        if body.len() == ERROR_BODY_BYTES_MAX {
            break;
        }
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    let value = serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text));
    wire::error_message(&value)
}

/// Seconds only; the form with a date is not worth a clock here.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
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

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
