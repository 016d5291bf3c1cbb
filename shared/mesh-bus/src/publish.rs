//! Publishing: core messages that are only enqueued, and durable ones that a stream acknowledges.

use std::time::Duration;

use async_nats::client::PublishErrorKind;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use mesh_types::Subject;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::{NoAnswer, read_answer};
use crate::connection::ENQUEUE_DEADLINE;
use crate::traced;
use crate::{Bus, BusError, Headers, StreamName};

/// How long one try waits for the stream's acknowledgement.
const ACK_DEADLINE: Duration = Duration::from_secs(5);
/// How long a durable publish is tried before its outcome is reported as unknown.
const DURABLE_DEADLINE: Duration = Duration::from_secs(30);
/// How long it is tried while the stream is known not to have it: a server that starts, a stream
/// without room.
const REFUSED_DEADLINE: Duration = Duration::from_secs(2);
const RETRY_PAUSE: Duration = Duration::from_millis(100);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How many of a stream's last messages are searched for an id.
const READ_BACK_MESSAGES_MAX: u64 = 256;

/// Where a stream keeps a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub stream: String,
    pub sequence: u64,
    /// The stream had a message of this id already: this is that one's place.
    pub duplicate: bool,
}

#[derive(Deserialize)]
struct PubAck {
    stream: String,
    seq: u64,
    #[serde(default)]
    duplicate: bool,
}

/// Outcome of one try.
enum Try {
    Stored(Stored),
    /// Not stored now; another try may succeed.
    NotNow(BusError),
    /// Stored or not.
    Unknown,
}

impl Bus {
    /// Hands a message to the connection: no answer, no storage, and lost if the connection
    /// breaks. Waits only when the connection is down and its queue is full.
    ///
    /// # Errors
    /// [`BusError::TooLarge`]; [`BusError::Disconnected`] after 10 s without room.
    pub async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<(), BusError> {
        self.enqueue(subject.to_string(), Headers::new(), payload).await
    }

    /// As [`Bus::publish`], with headers.
    ///
    /// # Errors
    /// As [`Bus::publish`].
    pub async fn publish_with(&self, subject: &Subject, headers: Headers, payload: Bytes) -> Result<(), BusError> {
        self.enqueue(subject.to_string(), headers, payload).await
    }

    /// Waits until the server has taken all that was published and subscribed here before.
    ///
    /// # Errors
    /// [`BusError::Disconnected`] after 10 s.
    pub async fn flush(&self) -> Result<(), BusError> {
        let doing = "flush";
        // Nobody listens there, and the server says so after what it was sent before.
        match self.ask(self.nowhere(), None, Bytes::new(), ENQUEUE_DEADLINE).await {
            Ok(_) | Err(NoAnswer::NobodyListens) => Ok(()),
            Err(NoAnswer::Client(source)) => Err(BusError::Client { doing, source }),
            Err(NoAnswer::TimedOut | NoAnswer::TooLarge) => Err(BusError::Disconnected { doing }),
        }
    }

    /// Publishes into a stream and waits for its acknowledgement. A repeated id within the
    /// stream's duplicate window is stored once. Silence is "unknown", never "failed": the same
    /// id is tried again, after reading back whether it is there, for up to 30 s.
    ///
    /// # Errors
    /// [`BusError::NoStream`], [`BusError::Refused`] (such as a full stream),
    /// [`BusError::TooLarge`]: not stored. [`BusError::Unknown`]: perhaps stored.
    pub async fn publish_durable(
        &self,
        subject: &Subject,
        id: &str,
        mut headers: Headers,
        payload: Bytes,
    ) -> Result<Stored, BusError> {
        headers.insert(Headers::NATS_MSG_ID, id);
        let mut span = traced::publishing(subject);
        // Who publishes for an invocation says its trace himself.
        if headers.trace().is_none() {
            headers.insert_trace(span.place());
        }
        let stored = self.store_patiently(subject, id, headers, payload).await;
        if stored.is_err() {
            span.fail("publish");
        }
        stored
    }

    async fn store_patiently(
        &self,
        subject: &Subject,
        id: &str,
        headers: Headers,
        payload: Bytes,
    ) -> Result<Stored, BusError> {
        let started = Instant::now();
        let mut pause = RETRY_PAUSE;
        let mut may_be_stored = false;
        loop {
            let tried = self.try_store(subject, headers.clone(), payload.clone()).await?;
            let failure = match tried {
                Try::Stored(stored) => return Ok(stored),
                Try::NotNow(error) => error,
                Try::Unknown => {
                    may_be_stored = true;
                    BusError::Unknown {
                        doing: format!("publish to {subject}"),
                        waited: DURABLE_DEADLINE,
                    }
                }
            };
            if may_be_stored && let Some(stored) = self.find_stored(subject, id).await {
                return Ok(stored);
            }
            let patience = if may_be_stored {
                DURABLE_DEADLINE
            } else {
                REFUSED_DEADLINE
            };
            let left = patience.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(failure);
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    /// Publishes into a stream and waits for its acknowledgement: one try, 5 s, no id. As a stream
    /// takes one connection's messages in order, it also says that what this bus published to the
    /// same stream before has arrived there.
    ///
    /// # Errors
    /// As [`Bus::publish_durable`].
    pub async fn publish_acked(&self, subject: &Subject, headers: Headers, payload: Bytes) -> Result<Stored, BusError> {
        match self.try_store(subject, headers, payload).await? {
            Try::Stored(stored) => Ok(stored),
            Try::NotNow(error) => Err(error),
            Try::Unknown => Err(BusError::Unknown {
                doing: format!("publish to {subject}"),
                waited: ACK_DEADLINE,
            }),
        }
    }

    async fn try_store(&self, subject: &Subject, headers: Headers, payload: Bytes) -> Result<Try, BusError> {
        self.try_store_at(subject.to_string(), headers, payload).await
    }

    async fn try_store_at(&self, subject: String, headers: Headers, payload: Bytes) -> Result<Try, BusError> {
        let bytes = payload.len() + headers.wire_bytes();
        let headers = (!headers.is_empty()).then(|| headers.into_map());
        let answer = match self.ask(subject.clone(), headers, payload, ACK_DEADLINE).await {
            Ok(answer) => answer,
            Err(NoAnswer::NobodyListens) => return Ok(Try::NotNow(BusError::NoStream { subject })),
            Err(NoAnswer::TimedOut) => return Ok(Try::Unknown),
            Err(NoAnswer::TooLarge) => return Err(self.too_large(bytes)),
            Err(NoAnswer::Client(source)) => {
                return Err(BusError::Client {
                    doing: "publish",
                    source,
                });
            }
        };
        let doing = "publish";
        match read_answer(&answer.payload, doing)? {
            Ok(value) => {
                let ack = PubAck::deserialize(value).map_err(|source| BusError::Answer {
                    doing: doing.to_owned(),
                    source,
                })?;
                let PubAck {
                    stream,
                    seq: sequence,
                    duplicate,
                } = ack;
                Ok(Try::Stored(Stored {
                    stream,
                    sequence,
                    duplicate,
                }))
            }
            Err((code, description)) => {
                let doing = format!("store a message of {subject}");
                let error = BusError::Refused {
                    doing,
                    code,
                    description,
                };
                if error.is_transient() {
                    Ok(Try::NotNow(error))
                } else {
                    Err(error)
                }
            }
        }
    }

    /// As [`Bus::publish_acked`], for the subjects of key-value buckets.
    pub(crate) async fn store_at(&self, subject: String, headers: Headers, payload: Bytes) -> Result<Stored, BusError> {
        let doing = format!("publish to {subject}");
        match self.try_store_at(subject, headers, payload).await? {
            Try::Stored(stored) => Ok(stored),
            Try::NotNow(error) => Err(error),
            Try::Unknown => Err(BusError::Unknown {
                doing,
                waited: ACK_DEADLINE,
            }),
        }
    }

    /// Looks for an id among the subject's messages in the last 256 of its stream; `None` also
    /// when the stream does not answer. A work queue forgets what was handled.
    pub async fn find_stored(&self, subject: &Subject, id: &str) -> Option<Stored> {
        let stream = StreamName::of(subject)?.as_str();
        let info = format!("STREAM.INFO.{stream}");
        let info = self
            .ask_jetstream(&info, &json!({}), "read a stream")
            .await
            .ok()?
            .ok()?;
        let last = info["state"]["last_seq"].as_u64()?;
        let first = info["state"]["first_seq"].as_u64()?;
        let endpoint = format!("STREAM.MSG.GET.{stream}");
        let mut sequence = first.max(last.saturating_sub(READ_BACK_MESSAGES_MAX));
        let subject = subject.to_string();
        loop {
            let body = json!({ "seq": sequence, "next_by_subj": subject });
            let found = self.ask_jetstream(&endpoint, &body, "read back").await.ok()?.ok()?;
            let found = &found["message"];
            let at = found["seq"].as_u64()?;
            if has_id(found, id) {
                let stream = stream.to_owned();
                return Some(Stored {
                    stream,
                    sequence: at,
                    duplicate: true,
                });
            }
            sequence = at + 1;
        }
    }

    #[expect(clippy::disallowed_methods, reason = "what `Bus::publish` stands on")]
    pub(crate) async fn enqueue(&self, subject: String, headers: Headers, payload: Bytes) -> Result<(), BusError> {
        let doing = "publish";
        let bytes = payload.len();
        let sent = async {
            if headers.is_empty() {
                self.client().publish(subject, payload).await
            } else {
                self.client()
                    .publish_with_headers(subject, headers.into_map(), payload)
                    .await
            }
        };
        match tokio::time::timeout(ENQUEUE_DEADLINE, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => Err(self.too_large(bytes)),
            Ok(Err(error)) => Err(BusError::Client {
                doing,
                source: error.into(),
            }),
            Err(_) => Err(BusError::Disconnected { doing }),
        }
    }
}

/// Whether a raw message of the API carries that `Nats-Msg-Id`; its headers come in base 64.
fn has_id(message: &Value, id: &str) -> bool {
    let Some(encoded) = message["hdrs"].as_str() else {
        return false;
    };
    let Ok(headers) = BASE64.decode(encoded) else {
        return false;
    };
    let text = String::from_utf8_lossy(&headers);
    text.lines().any(|line| {
        line.split_once(':')
            .is_some_and(|(name, value)| name.eq_ignore_ascii_case(Headers::NATS_MSG_ID) && value.trim() == id)
    })
}
