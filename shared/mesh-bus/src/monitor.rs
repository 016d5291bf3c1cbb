//! What the servers' monitoring shows: the servers, their streams, their durable consumers.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::Bus;
use crate::server::http_get;

/// Of one question to one server.
const DEADLINE: Duration = Duration::from_secs(3);
const VARZ_BYTES_MAX: u64 = 1024 * 1024;
/// Some hundreds of bytes a consumer, of which a KV watch is one.
const JSZ_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// With their limits (`config`), which say how much a stream may take.
const JSZ: &str = "/jsz?streams=true&consumers=true&config=true";

/// What one server shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitored {
    /// Host and port of its monitoring: the same whether it answers or not.
    pub server: String,
    /// Why it did not answer.
    pub figures: Result<ServerFigures, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerFigures {
    /// Resident, in bytes.
    pub memory_bytes: u64,
    /// Thousandths of a core.
    pub cpu_thousandths: u64,
    pub connections: u64,
    /// Clients that were cut for slowness since its start.
    pub slow_consumers: u64,
    pub streams: Vec<StreamFigures>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFigures {
    pub name: String,
    pub messages: u64,
    pub bytes: u64,
    /// `None`: without a limit of its own.
    pub bytes_max: Option<u64>,
    /// The durable ones.
    pub consumers: Vec<ConsumerFigures>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerFigures {
    pub name: String,
    /// Messages that it has yet to be given.
    pub pending: u64,
    /// Given and not acknowledged.
    pub unacked: u64,
}

impl Bus {
    /// Asks each monitoring address that this bus was given (several are separated by commas), all at once, for 3 s at
    /// most each. Without one the list is empty.
    pub async fn monitor(&self) -> Vec<Monitored> {
        let urls = self.options().monitor_url.as_deref().unwrap_or_default();
        let urls = urls.split(',').map(str::trim).filter(|url| !url.is_empty());
        futures::future::join_all(urls.map(look)).await
    }
}

async fn look(url: &str) -> Monitored {
    let (varz, jsz) = tokio::join!(
        ask::<Varz>(url, "/varz", VARZ_BYTES_MAX),
        ask::<Jsz>(url, JSZ, JSZ_BYTES_MAX)
    );
    Monitored {
        server: server_of(url).to_owned(),
        figures: varz.and_then(|varz| Ok(figures(&varz, jsz?))),
    }
}

async fn ask<T: DeserializeOwned>(url: &str, path: &str, bytes_max: u64) -> Result<T, String> {
    let answer = tokio::time::timeout(DEADLINE, http_get(url, path, bytes_max)).await;
    let answer = answer.map_err(|_| format!("no answer to {path} within {} s", DEADLINE.as_secs()))??;
    serde_json::from_slice(&answer).map_err(|error| format!("{path} is not what a nats-server says: {error}"))
}

/// Host and port, without what may stand before an `@`.
fn server_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}

/// The part of `/varz` that matters here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Varz {
    mem: u64,
    /// Per cent of a core.
    cpu: f64,
    connections: u64,
    slow_consumers: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Jsz {
    account_details: Vec<Account>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Account {
    stream_detail: Vec<Stream>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stream {
    name: String,
    state: StreamState,
    config: Option<StreamConfig>,
    consumer_detail: Option<Vec<Consumer>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StreamState {
    messages: u64,
    bytes: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StreamConfig {
    /// -1 and 0: none.
    max_bytes: i64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Consumer {
    name: String,
    num_pending: u64,
    num_ack_pending: u64,
    config: Option<ConsumerConfig>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ConsumerConfig {
    durable_name: String,
}

fn figures(varz: &Varz, jsz: Jsz) -> ServerFigures {
    let streams = jsz
        .account_details
        .into_iter()
        .flat_map(|account| account.stream_detail);
    ServerFigures {
        memory_bytes: varz.mem,
        // Not negative.
        cpu_thousandths: (varz.cpu * 10.0).round() as u64,
        connections: varz.connections,
        slow_consumers: varz.slow_consumers,
        streams: streams.map(stream).collect(),
    }
}

fn stream(stream: Stream) -> StreamFigures {
    let max = stream.config.unwrap_or_default().max_bytes;
    let consumers = stream.consumer_detail.unwrap_or_default().into_iter();
    let is_durable = |consumer: &Consumer| {
        let config = consumer.config.as_ref();
        config.is_some_and(|config| !config.durable_name.is_empty())
    };
    StreamFigures {
        name: stream.name,
        messages: stream.state.messages,
        bytes: stream.state.bytes,
        bytes_max: u64::try_from(max).ok().filter(|max| *max > 0),
        consumers: consumers
            .filter(is_durable)
            .map(|consumer| ConsumerFigures {
                name: consumer.name,
                pending: consumer.num_pending,
                unacked: consumer.num_ack_pending,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_its_address_without_a_password() {
        for (url, server) in [
            ("http://nats:8222", "nats:8222"),
            ("http://ann:hunter2@nats-1:8222/base", "nats-1:8222"),
            ("nats", "nats"),
        ] {
            assert_eq!(server_of(url), server);
        }
    }

    #[test]
    fn a_stream_without_a_limit_has_none_and_watches_are_no_consumers() {
        let jsz = r#"{"account_details": [{"stream_detail": [
            {"name": "A", "state": {"messages": 3, "bytes": 10}, "config": {"max_bytes": -1}},
            {"name": "B", "config": {"max_bytes": 9}, "consumer_detail": [
                {"name": "x", "num_pending": 2, "num_ack_pending": 1, "config": {"durable_name": "x"}},
                {"name": "ephemeral", "config": {}}]}
        ]}, {"name": "SYS"}]}"#;
        let varz = r#"{"mem": 5, "cpu": 12.34, "connections": 2, "other": {}}"#;
        let found = figures(&serde_json::from_str(varz).unwrap(), serde_json::from_str(jsz).unwrap());
        assert_eq!((found.memory_bytes, found.cpu_thousandths), (5, 123));
        let limits: Vec<_> = found.streams.iter().map(|stream| stream.bytes_max).collect();
        assert_eq!(limits, [None, Some(9)]);
        assert_eq!(found.streams[1].consumers.len(), 1);
        assert_eq!(found.streams[1].consumers[0].pending, 2);
    }
}
