//! Requests to JetStream's own API, in its raw JSON: what the server knows and the client's types
//! do not stays visible, and a configuration is compared as the server holds it.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{HeaderMap, Request};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::{Bus, BusError};

pub(crate) const API_DEADLINE: Duration = Duration::from_secs(10);

/// Error object in JetStream's answers.
#[derive(Debug, Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    code: u64,
    #[serde(default)]
    description: String,
}

/// Why a request had no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    NobodyListens,
    /// It may have been done.
    TimedOut,
    TooLarge,
    Client(async_nats::Error),
}

impl Bus {
    /// One request and its answer; the deadline covers waiting for room on a connection that is
    /// down, too.
    pub(crate) async fn ask(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<async_nats::Message, NoAnswer> {
        let mut request = Request::new().payload(payload).timeout(None);
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let asked = self.client().send_request(subject, request);
        match tokio::time::timeout(deadline, asked).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(error)) => Err(match error.kind() {
                RequestErrorKind::NoResponders => NoAnswer::NobodyListens,
                RequestErrorKind::TimedOut => NoAnswer::TimedOut,
                RequestErrorKind::MaxPayloadExceeded => NoAnswer::TooLarge,
                RequestErrorKind::InvalidSubject | RequestErrorKind::Other => NoAnswer::Client(error.into()),
            }),
            Err(_) => Err(NoAnswer::TimedOut),
        }
    }

    /// Asks JetStream's API; `Ok(Err(..))` is its refusal as (code, description).
    pub(crate) async fn ask_jetstream(
        &self,
        endpoint: &str,
        body: &Value,
        doing: &'static str,
    ) -> Result<Result<Value, (u64, String)>, BusError> {
        let subject = format!("$JS.API.{endpoint}");
        let payload = Bytes::from(body.to_string());
        let answer = match self.ask(subject, None, payload, API_DEADLINE).await {
            Ok(answer) => answer,
            Err(NoAnswer::NobodyListens) => {
                let description = "JetStream is not available on this server".to_owned();
                return Ok(Err((503, description)));
            }
            Err(NoAnswer::TimedOut) => {
                return Err(BusError::Unknown {
                    doing: doing.to_owned(),
                    waited: API_DEADLINE,
                });
            }
            Err(NoAnswer::TooLarge) => return Err(self.too_large(body.to_string().len())),
            Err(NoAnswer::Client(source)) => return Err(BusError::Client { doing, source }),
        };
        read_answer(&answer.payload, doing)
    }

    pub(crate) fn too_large(&self, bytes: usize) -> BusError {
        BusError::TooLarge {
            bytes,
            bytes_max: self.client().max_payload(),
        }
    }
}

pub(crate) fn read_answer(payload: &[u8], doing: &'static str) -> Result<Result<Value, (u64, String)>, BusError> {
    let unreadable = |source| BusError::Answer {
        doing: doing.to_owned(),
        source,
    };
    let answer: Value = serde_json::from_slice(payload).map_err(unreadable)?;
    match answer.get("error") {
        None => Ok(Ok(answer)),
        Some(error) => {
            let error = ApiError::deserialize(error).map_err(unreadable)?;
            let code = if error.err_code == 0 {
                error.code
            } else {
                error.err_code
            };
            Ok(Err((code, error.description)))
        }
    }
}
