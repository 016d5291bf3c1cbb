//! What a stream still holds of one subject, for readers that come late. No consumer: a client may cost none.

use std::time::Duration;

use async_nats::StatusCode;
use bytes::Bytes;
use futures::StreamExt;
use mesh_types::Subject;
use serde_json::json;

use crate::{Bus, BusError, Message, StreamName};

/// Messages asked for at once.
const BATCH: usize = 256;
/// Bytes asked for at once; far below what a connection may hold back.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Longest silence within one batch.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// What one batch brought.
struct Batch {
    messages: Vec<Message>,
    last_sequence: u64,
    /// Messages of the subject that the server has beyond it.
    pending: u64,
}

impl Bus {
    /// The oldest messages of a subject that its stream holds, in order, at most `messages_max`; none when it holds
    /// none.
    ///
    /// # Errors
    /// [`BusError::NoStream`]; [`BusError::Unknown`] when the server falls silent.
    pub async fn read_back(&self, subject: &Subject, messages_max: usize) -> Result<Vec<Message>, BusError> {
        let no_stream = || BusError::NoStream {
            subject: subject.to_string(),
        };
        let stream = StreamName::of(subject).ok_or_else(no_stream)?;
        let (mut messages, mut from) = (Vec::new(), 1);
        while messages.len() < messages_max {
            let size = BATCH.min(messages_max - messages.len());
            let batch = self.read_batch(stream, subject, from, size).await?;
            let is_last = batch.messages.is_empty() || batch.pending == 0;
            messages.extend(batch.messages);
            from = batch.last_sequence + 1;
            if is_last {
                break;
            }
        }
        Ok(messages)
    }

    async fn read_batch(
        &self,
        stream: StreamName,
        subject: &Subject,
        from: u64,
        size: usize,
    ) -> Result<Batch, BusError> {
        let doing = "read a stream back";
        let inbox = self.client().new_inbox();
        let mut answers = self.subscribe_at(inbox.clone(), None).await?;
        let body = json!({
            "seq": from, "next_by_subj": subject.to_string(), "batch": size, "max_bytes": BATCH_BYTES_MAX,
        });
        let api = format!("$JS.API.DIRECT.GET.{}", stream.as_str());
        let asked = self
            .client()
            .publish_with_reply(api, inbox, Bytes::from(body.to_string()))
            .await;
        asked.map_err(|source| BusError::Client {
            doing,
            source: source.into(),
        })?;
        let mut batch = Batch {
            messages: Vec::new(),
            last_sequence: from,
            pending: 0,
        };
        loop {
            let answer = match tokio::time::timeout(SILENCE_MAX, answers.next()).await {
                Ok(Some(answer)) => answer,
                Ok(None) => return Err(BusError::Disconnected { doing }),
                Err(_) => {
                    return Err(BusError::Unknown {
                        doing: doing.to_owned(),
                        waited: SILENCE_MAX,
                    });
                }
            };
            match answer.status {
                None | Some(StatusCode::OK) => {
                    let number = |name| number_in(&answer, name);
                    batch.last_sequence = number("Nats-Sequence").unwrap_or(batch.last_sequence);
                    batch.pending = number("Nats-Num-Pending").unwrap_or_default();
                    let mut message = Message::from(answer);
                    message.subject = subject.to_string();
                    message.reply = None;
                    batch.messages.push(message);
                }
                Some(StatusCode::NO_RESPONDERS) => {
                    return Err(BusError::NoStream {
                        subject: subject.to_string(),
                    });
                }
                // 204: the end of the batch; 404: the stream holds nothing of the subject.
                Some(_) => {
                    batch.pending = number_in(&answer, "Nats-Num-Pending").unwrap_or_default();
                    return Ok(batch);
                }
            }
        }
    }
}

fn number_in(message: &async_nats::Message, name: &'static str) -> Option<u64> {
    let value = message.headers.as_ref()?.get(name)?;
    value.as_str().parse().ok()
}
