//! Following a whole stream from a place in it, each message with its number: for readers that keep their own place.

use std::fmt;
use std::time::Duration;

use async_nats::StatusCode;
use async_nats::jetstream::consumer::push::{Ordered, OrderedConfig};
use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy};
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;
use futures::StreamExt;
use mesh_types::subject::Filter;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;

use crate::{Bus, BusError, Message, StreamName};

const OPEN_DEADLINE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Messages and bytes asked for at once.
const BATCH: usize = 256;
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Longest silence within one batch.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// How far a stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamExtent {
    /// When it was created, as the server writes it: another time is another stream, whose numbers start anew.
    pub created: String,
    /// Number of the oldest message that is kept.
    pub first: u64,
    /// Number of the newest message; 0 if there never was one.
    pub last: u64,
}

/// A message with its number in the stream.
#[derive(Debug, Clone)]
pub struct Numbered {
    pub sequence: u64,
    pub message: Message,
}

/// Messages of a stream in its order, over every reconnect, without a gap as far as the stream keeps them.
pub struct StreamFollower {
    bus: Bus,
    stream: StreamName,
    filter: Filter,
    /// Number of the last message that was handed out.
    after: u64,
    connections: watch::Receiver<u64>,
    open: Option<Ordered>,
    pause: Duration,
}

impl fmt::Debug for StreamFollower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamFollower")
            .field("stream", &self.stream)
            .field("after", &self.after)
            .finish()
    }
}

#[derive(Deserialize)]
struct Info {
    created: String,
    state: InfoState,
}

#[derive(Deserialize)]
struct InfoState {
    first_seq: u64,
    last_seq: u64,
}

impl Bus {
    /// How far a stream is.
    ///
    /// # Errors
    /// When the stream is not there or does not answer within 10 s.
    pub async fn stream_extent(&self, stream: StreamName) -> Result<StreamExtent, BusError> {
        let doing = "ask how far a stream is";
        let endpoint = format!("STREAM.INFO.{}", stream.as_str());
        let refused = |(code, description)| BusError::Refused {
            doing: doing.to_owned(),
            code,
            description,
        };
        let answer = self
            .ask_jetstream(&endpoint, &json!({}), doing)
            .await?
            .map_err(refused)?;
        let info = Info::deserialize(&answer).map_err(|source| BusError::Answer {
            doing: doing.to_owned(),
            source,
        })?;
        Ok(StreamExtent {
            created: info.created,
            first: info.state.first_seq,
            last: info.state.last_seq,
        })
    }

    /// The messages above a number, then every new one. One consumer of the server's: one a process, never one a client.
    #[must_use]
    pub fn follow(&self, stream: StreamName, filter: Filter, after: u64) -> StreamFollower {
        StreamFollower {
            bus: self.clone(),
            stream,
            filter,
            after,
            connections: self.connections(),
            open: None,
            pause: PAUSE,
        }
    }

    /// Messages of a filter above a number, in order, as many as one answer holds; none at the end. No consumer.
    ///
    /// # Errors
    /// [`BusError::NoStream`]; [`BusError::Unknown`] when the server falls silent.
    pub async fn read_above(&self, stream: StreamName, filter: &Filter, after: u64) -> Result<Vec<Numbered>, BusError> {
        let doing = "read a stream on";
        let inbox = self.client().new_inbox();
        let mut answers = self.subscribe_at(inbox.clone(), None).await?;
        let body = json!({
            "seq": after + 1, "next_by_subj": filter.to_string(), "batch": BATCH, "max_bytes": BATCH_BYTES_MAX,
        });
        let api = format!("$JS.API.DIRECT.GET.{}", stream.as_str());
        let payload = Bytes::from(body.to_string());
        let asked = self.client().publish_with_reply(api, inbox, payload).await;
        asked.map_err(|source| BusError::Client {
            doing,
            source: source.into(),
        })?;
        let mut found = Vec::new();
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
                    let header = |name: &'static str| {
                        answer
                            .headers
                            .as_ref()?
                            .get(name)
                            .map(|value| value.as_str().to_owned())
                    };
                    let sequence = header("Nats-Sequence").and_then(|text| text.parse().ok());
                    let subject = header("Nats-Subject").unwrap_or_default();
                    let Some(sequence) = sequence else { continue };
                    let mut message = Message::from(answer);
                    (message.subject, message.reply) = (subject, None);
                    found.push(Numbered { sequence, message });
                }
                Some(StatusCode::NO_RESPONDERS) => {
                    return Err(BusError::NoStream {
                        subject: filter.to_string(),
                    });
                }
                // 204: the end of the batch; 404: nothing above.
                Some(_) => return Ok(found),
            }
        }
    }

    async fn open_follower(&self, stream: StreamName, filter: &Filter, after: u64) -> Result<Ordered, BusError> {
        let doing = "follow a stream";
        let opened = async {
            let stream: Stream<()> = self
                .jetstream()
                .get_stream_no_info(stream.as_str())
                .await
                .map_err(|error| BusError::client(doing)(error.into()))?;
            let config = OrderedConfig {
                deliver_subject: self.client().new_inbox(),
                filter_subject: filter.to_string(),
                replay_policy: ReplayPolicy::Instant,
                deliver_policy: DeliverPolicy::ByStartSequence {
                    start_sequence: after + 1,
                },
                ..OrderedConfig::default()
            };
            let consumer = stream.create_consumer(config).await;
            let consumer = consumer.map_err(|error| BusError::client(doing)(error.into()))?;
            consumer
                .messages()
                .await
                .map_err(|error| BusError::client(doing)(error.into()))
        };
        match tokio::time::timeout(OPEN_DEADLINE, opened).await {
            Ok(opened) => opened,
            Err(_) => Err(BusError::Unknown {
                doing: doing.to_owned(),
                waited: OPEN_DEADLINE,
            }),
        }
    }
}

impl StreamFollower {
    /// The next message. Dropped while it waits, it has lost nothing.
    pub async fn next(&mut self) -> Numbered {
        loop {
            let Some(open) = &mut self.open else {
                self.connections.mark_unchanged();
                match self.bus.open_follower(self.stream, &self.filter, self.after).await {
                    Ok(open) => self.open = Some(open),
                    Err(error) => self.rest(&error).await,
                }
                continue;
            };
            let message = tokio::select! {
                biased;
                // The server does not know a consumer of an earlier connection.
                _ = self.connections.changed() => {
                    self.open = None;
                    continue;
                }
                message = open.next() => message,
            };
            match message {
                Some(Ok(message)) => {
                    self.pause = PAUSE;
                    let sequence = message.info().map_or(0, |info| info.stream_sequence);
                    if sequence <= self.after {
                        continue;
                    }
                    self.after = sequence;
                    let mut message = Message::from(message.message);
                    message.reply = None;
                    return Numbered { sequence, message };
                }
                Some(Err(error)) => {
                    self.open = None;
                    self.rest(&error).await;
                }
                None => self.open = None,
            }
        }
    }

    async fn rest(&mut self, error: &(dyn std::error::Error + Send + Sync)) {
        tracing::warn!(%error, stream = self.stream.as_str(), "a stream is not followed");
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}
