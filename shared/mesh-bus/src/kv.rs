//! Key-value buckets: pointers and presence. A watch is a bell with data; it can miss changes at a
//! reconnect, so its reader lists the bucket again at least every 60 s.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::StatusCode;
use async_nats::jetstream::kv::{Operation, Watch};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::sync::watch;

use crate::api::{API_DEADLINE, NoAnswer};
use crate::{Bucket, Bus, BusError, Headers};

const OPERATION: &str = "KV-Operation";
const MARKER_REASON: &str = "Nats-Marker-Reason";
const TTL: &str = "Nats-TTL";
const SEQUENCE: &str = "Nats-Sequence";
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
/// Keys that a list reads at the same time.
const LIST_READS_MAX: usize = 32;
const LIST_DEADLINE: Duration = Duration::from_secs(30);
const WATCH_PAUSE: Duration = Duration::from_millis(200);
const WATCH_PAUSE_MAX: Duration = Duration::from_secs(5);

/// One key as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvEntry {
    pub key: String,
    /// `None`: deleted, or its time is over.
    pub value: Option<Bytes>,
    /// Grows with every change of the bucket.
    pub revision: u64,
}

/// All current entries, then every change; see [`Bus::kv_watch`].
pub struct KvWatch(BoxStream<'static, KvEntry>);

impl KvWatch {
    /// The next entry; never `None`.
    pub async fn next(&mut self) -> Option<KvEntry> {
        self.0.next().await
    }
}

impl Stream for KvWatch {
    type Item = KvEntry;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<KvEntry>> {
        self.0.poll_next_unpin(cx)
    }
}

impl fmt::Debug for KvWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KvWatch")
    }
}

impl Bus {
    /// Sets a key and answers its revision.
    ///
    /// # Errors
    /// [`BusError::Key`]; as [`Bus::publish_durable`], with one try.
    pub async fn kv_put(&self, bucket: Bucket, key: &str, value: Bytes) -> Result<u64, BusError> {
        let subject = subject_of(bucket, key)?;
        self.store_at(subject, Headers::new(), value)
            .await
            .map(|stored| stored.sequence)
    }

    /// As [`Bus::kv_put`], for a bucket whose keys may expire: after `ttl`, in whole seconds, rounded up, at least one
    /// and at least the bucket's marker lives, the key is gone, and watchers get an entry without a value.
    ///
    /// # Errors
    /// As [`Bus::kv_put`].
    pub async fn kv_put_for(&self, bucket: Bucket, key: &str, value: Bytes, ttl: Duration) -> Result<u64, BusError> {
        let subject = subject_of(bucket, key)?;
        self.store_at(subject, expiring(ttl), value)
            .await
            .map(|stored| stored.sequence)
    }

    /// As [`Bus::kv_put_for`], but nobody waits for the bucket's answer: for a key that is written again and again
    /// before it expires, where a write that is lost is made good by the next.
    ///
    /// # Errors
    /// [`BusError::Key`]; as [`Bus::publish`].
    pub async fn kv_renew(&self, bucket: Bucket, key: &str, value: Bytes, ttl: Duration) -> Result<(), BusError> {
        let subject = subject_of(bucket, key)?;
        self.enqueue(subject, expiring(ttl), value).await
    }

    /// As [`Bus::kv_put`], where nobody has changed the key since that revision; a deletion is a change.
    ///
    /// # Errors
    /// As [`Bus::kv_put`]; [`BusError::Refused`] where the key has another revision.
    pub async fn kv_update(&self, bucket: Bucket, key: &str, value: Bytes, revision: u64) -> Result<u64, BusError> {
        let subject = subject_of(bucket, key)?;
        let mut headers = Headers::new();
        headers.insert(EXPECTED, revision.to_string());
        self.store_at(subject, headers, value)
            .await
            .map(|stored| stored.sequence)
    }

    /// Deletes a key; its watchers hear of it.
    ///
    /// # Errors
    /// As [`Bus::kv_put`].
    pub async fn kv_delete(&self, bucket: Bucket, key: &str) -> Result<(), BusError> {
        let subject = subject_of(bucket, key)?;
        let mut headers = Headers::new();
        headers.insert(OPERATION, "DEL");
        self.store_at(subject, headers, Bytes::new()).await.map(drop)
    }

    /// A key's value, if it has one.
    ///
    /// # Errors
    /// [`BusError::Key`]; when the bucket is not there or does not answer.
    pub async fn kv_get(&self, bucket: Bucket, key: &str) -> Result<Option<Bytes>, BusError> {
        Ok(self.kv_entry(bucket, key).await?.and_then(|entry| entry.value))
    }

    async fn kv_entry(&self, bucket: Bucket, key: &str) -> Result<Option<KvEntry>, BusError> {
        let subject = subject_of(bucket, key)?;
        let asked = format!("$JS.API.DIRECT.GET.{}.{subject}", bucket.stream());
        let doing = "read a key";
        let answer = match self.ask(asked, None, Bytes::new(), API_DEADLINE).await {
            Ok(answer) => answer,
            Err(NoAnswer::NobodyListens) => return Err(BusError::NoStream { subject }),
            Err(NoAnswer::TimedOut) => {
                return Err(BusError::Unknown {
                    doing: doing.to_owned(),
                    waited: API_DEADLINE,
                });
            }
            Err(NoAnswer::TooLarge) => return Err(self.too_large(0)),
            Err(NoAnswer::Client(source)) => return Err(BusError::Client { doing, source }),
        };
        match answer.status {
            Some(StatusCode::NOT_FOUND) => Ok(None),
            Some(status) if status != StatusCode::OK => Err(BusError::Refused {
                doing: format!("read {subject}"),
                code: u64::from(status.as_u16()),
                description: answer.description.unwrap_or_default(),
            }),
            _ => {
                let headers = Headers::from(answer.headers);
                let is_marker = headers.get(OPERATION).is_some_and(|operation| operation != "PUT")
                    || headers.get(MARKER_REASON).is_some();
                let revision = headers.get(SEQUENCE).and_then(|text| text.parse().ok());
                Ok(Some(KvEntry {
                    key: key.to_owned(),
                    value: (!is_marker).then_some(answer.payload),
                    revision: revision.unwrap_or_default(),
                }))
            }
        }
    }

    /// Every key that has a value, in no order.
    ///
    /// # Errors
    /// When the bucket is not there or does not answer.
    pub async fn kv_list(&self, bucket: Bucket) -> Result<Vec<KvEntry>, BusError> {
        let doing = "list a bucket";
        let listed = async {
            let store = self.jetstream().get_key_value(bucket.name()).await;
            let store = store.map_err(|error| BusError::client(doing)(error.into()))?;
            let keys = store.keys().await;
            let keys = keys.map_err(|error| BusError::client(doing)(error.into()))?;
            keys.map_err(|error| BusError::client(doing)(error.into()))
                .map_ok(|key| async move { self.kv_entry(bucket, &key).await })
                .try_buffer_unordered(LIST_READS_MAX)
                .try_collect::<Vec<_>>()
                .await
        };
        let listed = tokio::time::timeout(LIST_DEADLINE, listed).await;
        let unknown = |_| BusError::Unknown {
            doing: doing.to_owned(),
            waited: LIST_DEADLINE,
        };
        let entries = listed.map_err(unknown)??;
        Ok(entries
            .into_iter()
            .flatten()
            .filter(|entry| entry.value.is_some())
            .collect())
    }

    /// All current entries of a bucket, then every change, for ever: when the watch breaks, it is
    /// made anew and says all current entries again. A change may be missed then, so read
    /// [`Bus::kv_list`] at least every 60 s.
    #[must_use]
    pub fn kv_watch(&self, bucket: Bucket) -> KvWatch {
        let watcher = Watcher {
            bus: self.clone(),
            bucket,
            connections: self.connections(),
            watch: None,
            pause: WATCH_PAUSE,
        };
        let entries = futures::stream::unfold(watcher, |mut watcher| async move {
            let entry = watcher.next().await;
            Some((entry, watcher))
        });
        KvWatch(entries.boxed())
    }

    async fn open_watch(&self, bucket: Bucket) -> Result<Watch, BusError> {
        let doing = "watch a bucket";
        let opened = async {
            let store = self.jetstream().get_key_value(bucket.name()).await;
            let store = store.map_err(|error| BusError::client(doing)(error.into()))?;
            let watch = store.watch_with_history(">").await;
            watch.map_err(|error| BusError::client(doing)(error.into()))
        };
        match tokio::time::timeout(LIST_DEADLINE, opened).await {
            Ok(opened) => opened,
            Err(_) => Err(BusError::Unknown {
                doing: doing.to_owned(),
                waited: LIST_DEADLINE,
            }),
        }
    }
}

/// A watch that is made anew whenever it breaks.
struct Watcher {
    bus: Bus,
    bucket: Bucket,
    connections: watch::Receiver<u64>,
    watch: Option<Watch>,
    pause: Duration,
}

impl Watcher {
    async fn next(&mut self) -> KvEntry {
        loop {
            let Some(open) = &mut self.watch else {
                self.connections.mark_unchanged();
                match self.bus.open_watch(self.bucket).await {
                    Ok(open) => self.watch = Some(open),
                    Err(error) => self.rest(&error).await,
                }
                continue;
            };
            let entry = tokio::select! {
                biased;
                // The server does not know a watch of an earlier connection; the client would
                // notice by the missing heartbeats, many seconds later.
                _ = self.connections.changed() => {
                    self.watch = None;
                    continue;
                }
                entry = open.next() => entry,
            };
            match entry {
                Some(Ok(entry)) => {
                    self.pause = WATCH_PAUSE;
                    return entry_of(entry);
                }
                Some(Err(error)) => {
                    self.watch = None;
                    self.rest(&error).await;
                }
                None => self.watch = None,
            }
        }
    }

    async fn rest(&mut self, error: &(dyn std::error::Error + Send + Sync)) {
        tracing::warn!(%error, bucket = self.bucket.name(), "a bucket is not watched");
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(WATCH_PAUSE_MAX);
    }
}

fn entry_of(entry: async_nats::jetstream::kv::Entry) -> KvEntry {
    let is_put = entry.operation == Operation::Put;
    let value = is_put.then_some(entry.value);
    KvEntry {
        key: entry.key,
        value,
        revision: entry.revision,
    }
}

fn expiring(ttl: Duration) -> Headers {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    let mut headers = Headers::new();
    headers.insert(TTL, seconds.max(1).to_string());
    headers
}

fn subject_of(bucket: Bucket, key: &str) -> Result<String, BusError> {
    let is_key = !key.is_empty()
        && key.len() <= 512
        && key.split('.').all(|token| !token.is_empty())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-/_=.".contains(&b));
    if !is_key {
        let key = key.chars().take(120).flat_map(char::escape_debug).collect();
        return Err(BusError::Key { key });
    }
    Ok(format!("$KV.{}.{key}", bucket.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_cannot_leave_its_bucket() {
        assert_eq!(
            subject_of(Bucket::Agents, "default.sofia").unwrap(),
            "$KV.AGENTS.default.sofia"
        );
        for key in [
            "",
            ".a",
            "a.",
            "a..b",
            "*",
            ">",
            "a b",
            "a\r\nPUB",
            "ü",
            &"x".repeat(513),
        ] {
            assert!(
                matches!(subject_of(Bucket::Agents, key), Err(BusError::Key { .. })),
                "{key:?}"
            );
        }
    }
}
