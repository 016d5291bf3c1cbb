//! A stream as one piece, out of a server and into one: with its sequences, times and the positions of its consumers.
//! For backups only; the one place where a stream may be removed, to put its copy in its place.

use std::time::Duration;

use async_nats::StatusCode;
use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::api::{NoAnswer, read_answer};
use crate::{Bus, BusError};

const STREAM_NOT_FOUND: u64 = 10_059;
/// Bytes of one message of a snapshot; the server takes 1 KiB to 1 MiB.
const CHUNK_BYTES: u64 = 512 * 1024;
/// Bytes on their way at once, which bounds what waits here.
const WINDOW_BYTES: u64 = 4 * 1024 * 1024;
/// Before its first byte the server writes what it holds in memory.
const STALLED: Duration = Duration::from_secs(30);
/// A restored stream is indexed before the server answers.
const FINISHED: Duration = Duration::from_secs(300);

/// A stream that is being copied out.
#[derive(Debug)]
pub struct StreamSnapshot {
    bus: Bus,
    name: String,
    /// As the server holds it; what a restore wants.
    pub config: Value,
    /// `messages`, `bytes`, `first_seq`, `last_seq`, … at the beginning of the copy.
    pub state: Value,
    chunks: async_nats::Subscriber,
    is_whole: bool,
}

/// A stream that is being copied in.
#[derive(Debug)]
pub struct StreamRestore {
    bus: Bus,
    name: String,
    deliver: String,
}

impl Bus {
    /// What the server says of a stream: `config`, `state`, `created`, `cluster`; `None` when there is none.
    ///
    /// # Errors
    /// [`BusError::Refused`], [`BusError::Unknown`].
    pub async fn stream_info(&self, name: &str) -> Result<Option<Value>, BusError> {
        self.stream_verb("INFO", name, &json!({}), "ask about a stream").await
    }

    /// What the server says of the consumers of a stream, at most 256 of them.
    ///
    /// # Errors
    /// As [`Bus::stream_info`].
    pub async fn stream_consumers(&self, name: &str) -> Result<Vec<Value>, BusError> {
        let doing = "list the consumers of a stream";
        let endpoint = format!("CONSUMER.LIST.{name}");
        match self.ask_jetstream(&endpoint, &json!({}), doing).await? {
            Ok(mut answer) => Ok(match answer["consumers"].take() {
                Value::Array(consumers) => consumers,
                _ => Vec::new(),
            }),
            Err((STREAM_NOT_FOUND, _)) => Ok(Vec::new()),
            Err((code, description)) => Err(refused(doing, name, code, description)),
        }
    }

    /// Begins to copy a stream out, with its durable consumers; `None` when there is none. Writers may go on.
    ///
    /// # Errors
    /// As [`Bus::stream_info`].
    pub async fn snapshot_stream(&self, name: &str) -> Result<Option<StreamSnapshot>, BusError> {
        let inbox = self.client().new_inbox();
        let chunks = self.subscribe_at(inbox.clone(), None).await?;
        let wish = json!({ "deliver_subject": inbox, "chunk_size": CHUNK_BYTES, "window_size": WINDOW_BYTES });
        let answer = self.stream_verb("SNAPSHOT", name, &wish, "copy a stream").await?;
        Ok(answer.map(|mut answer| StreamSnapshot {
            bus: self.clone(),
            name: name.to_owned(),
            config: answer["config"].take(),
            state: answer["state"].take(),
            chunks,
            is_whole: false,
        }))
    }

    /// Begins to copy a stream in, under the name of `config`; there must be none of that name.
    ///
    /// # Errors
    /// [`BusError::Refused`], such as for a stream that is there.
    pub async fn restore_stream(&self, config: &Value, state: &Value) -> Result<StreamRestore, BusError> {
        let doing = "put a stream back";
        let name = config["name"].as_str().unwrap_or_default().to_owned();
        let wish = json!({ "config": config, "state": state });
        let endpoint = format!("STREAM.RESTORE.{name}");
        match self.ask_jetstream(&endpoint, &wish, doing).await? {
            Ok(answer) => Ok(StreamRestore {
                bus: self.clone(),
                name,
                deliver: answer["deliver_subject"].as_str().unwrap_or_default().to_owned(),
            }),
            Err((code, description)) => Err(refused(doing, &name, code, description)),
        }
    }

    /// Removes a stream with all that is in it, for a restore that puts its copy there: nothing else may. Whether there
    /// was one.
    ///
    /// # Errors
    /// As [`Bus::stream_info`].
    pub async fn make_room_for(&self, name: &str) -> Result<bool, BusError> {
        let removed = self
            .stream_verb("DELETE", name, &json!({}), "make room for a stream")
            .await?;
        Ok(removed.is_some())
    }

    async fn stream_verb(
        &self,
        verb: &str,
        name: &str,
        body: &Value,
        doing: &'static str,
    ) -> Result<Option<Value>, BusError> {
        match self
            .ask_jetstream(&format!("STREAM.{verb}.{name}"), body, doing)
            .await?
        {
            Ok(answer) => Ok(Some(answer)),
            Err((STREAM_NOT_FOUND, _)) => Ok(None),
            Err((code, description)) => Err(refused(doing, name, code, description)),
        }
    }
}

impl StreamSnapshot {
    /// The next bytes, in order; `None` after the last. They are packed as the server wants them back.
    ///
    /// # Errors
    /// [`BusError::Unknown`] when the server falls silent, [`BusError::Refused`] when it gives up.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BusError> {
        const DOING: &str = "copy a stream";
        if self.is_whole {
            return Ok(None);
        }
        let silent = || BusError::Unknown {
            doing: format!("{DOING} ({})", self.name),
            waited: STALLED,
        };
        let chunk = tokio::time::timeout(STALLED, self.chunks.next()).await;
        let chunk = chunk.ok().flatten().ok_or_else(silent)?;
        if let Some(reply) = chunk.reply {
            // The server counts these against its window.
            self.bus
                .enqueue(reply.into_string(), crate::Headers::new(), Bytes::new())
                .await?;
        }
        if !chunk.payload.is_empty() {
            return Ok(Some(chunk.payload));
        }
        match chunk.status {
            Some(status) if status.as_u16() >= 400 => {
                let why = chunk.description.unwrap_or_default();
                Err(refused(DOING, &self.name, u64::from(status.as_u16()), why))
            }
            _ => {
                self.is_whole = true;
                Ok(None)
            }
        }
    }
}

impl StreamRestore {
    /// The next bytes, in order.
    ///
    /// # Errors
    /// [`BusError::Refused`] when the server does not take them, [`BusError::Unknown`] when it falls silent.
    pub async fn send(&self, chunk: Bytes) -> Result<(), BusError> {
        self.hand_over(chunk, STALLED).await.map(drop)
    }

    /// There is no more: the stream stands when this returns. Its state as the server says it.
    ///
    /// # Errors
    /// As [`StreamRestore::send`].
    pub async fn finish(self) -> Result<Value, BusError> {
        Ok(self.hand_over(Bytes::new(), FINISHED).await?["state"].take())
    }

    async fn hand_over(&self, chunk: Bytes, deadline: Duration) -> Result<Value, BusError> {
        const DOING: &str = "put a stream back";
        let bytes = chunk.len();
        let asked = self.bus.ask(self.deliver.clone(), None, chunk, deadline).await;
        let answer = match asked {
            Ok(answer) => answer,
            Err(NoAnswer::TooLarge) => return Err(self.bus.too_large(bytes)),
            Err(NoAnswer::Client(source)) => return Err(BusError::Client { doing: DOING, source }),
            Err(NoAnswer::NobodyListens) => {
                let why = "the server has given this copy up".to_owned();
                return Err(refused(
                    DOING,
                    &self.name,
                    u64::from(StatusCode::NO_RESPONDERS.as_u16()),
                    why,
                ));
            }
            Err(NoAnswer::TimedOut) => {
                return Err(BusError::Unknown {
                    doing: format!("{DOING} ({})", self.name),
                    waited: deadline,
                });
            }
        };
        if answer.payload.is_empty() {
            return Ok(Value::Null);
        }
        match read_answer(&answer.payload, DOING)? {
            Ok(answer) => Ok(answer),
            Err((code, description)) => Err(refused(DOING, &self.name, code, description)),
        }
    }
}

fn refused(doing: &str, name: &str, code: u64, description: String) -> BusError {
    BusError::Refused {
        doing: format!("{doing} ({name})"),
        code,
        description,
    }
}
