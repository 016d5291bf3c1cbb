//! Applying a topology: create what is missing, change what differs, verify all of it. What cannot
//! be changed in place is an error for a person; nothing is ever deleted.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::compare::differences;
use super::{ConsumerSpec, Storage, StreamSpec, Topology};
use crate::{Bus, BusError, TopologyError};

const STREAM_NOT_FOUND: u64 = 10_059;
const CONSUMER_NOT_FOUND: u64 = 10_014;

const KEEP_PAUSE: Duration = Duration::from_secs(1);

/// What became of one stream, bucket or consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    Created(String),
    /// With the fields that differed.
    Updated(String, Vec<String>),
    Unchanged(String),
}

/// One thing of the topology in the words of the server's API.
struct Item {
    what: String,
    info: String,
    create: String,
    update: String,
    not_found: u64,
    /// The server forgets it with its content when it restarts.
    is_fleeting: bool,
    /// What is compared with the `config` of the server's answer.
    config: Value,
    /// Body of create and update.
    body: Value,
}

impl Item {
    fn stream(stream: &StreamSpec) -> Self {
        let name = &stream.name;
        let config = serde_json::to_value(stream).expect("a specification is plain JSON");
        Self {
            what: format!("stream {name}"),
            info: format!("STREAM.INFO.{name}"),
            create: format!("STREAM.CREATE.{name}"),
            update: format!("STREAM.UPDATE.{name}"),
            not_found: STREAM_NOT_FOUND,
            is_fleeting: stream.storage == Storage::Memory,
            body: config.clone(),
            config,
        }
    }

    fn consumer(consumer: &ConsumerSpec) -> Self {
        let (stream, durable) = (consumer.stream.as_str(), consumer.durable);
        let config = consumer.config();
        let create = format!("CONSUMER.CREATE.{stream}.{durable}");
        Self {
            what: format!("consumer {stream}/{durable}"),
            info: format!("CONSUMER.INFO.{stream}.{durable}"),
            update: create.clone(),
            create,
            not_found: CONSUMER_NOT_FOUND,
            is_fleeting: false,
            body: json!({ "stream_name": stream, "config": config }),
            config,
        }
    }
}

impl Topology {
    /// As `nats/topology.json` holds it.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a topology is plain JSON");
        text.push('\n');
        text
    }

    fn items(&self) -> Vec<Item> {
        let streams = self.streams.iter().chain(&self.buckets).map(Item::stream);
        streams.chain(self.consumers.iter().map(Item::consumer)).collect()
    }
}

impl ConsumerSpec {
    pub(crate) fn config(&self) -> Value {
        json!({
            "durable_name": self.durable,
            "name": self.durable,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": u64::try_from(self.ack_wait.as_nanos()).unwrap_or(u64::MAX),
            // Who gives up on a message is its handler, with a reason.
            "max_deliver": -1,
            "max_ack_pending": self.max_in_flight,
            "max_waiting": 64,
            "replay_policy": "instant",
            "num_replicas": 0,
        })
    }
}

impl Bus {
    /// Makes the server hold the topology, and verifies it afterwards. Repeating it changes
    /// nothing.
    ///
    /// # Errors
    /// [`TopologyError::CannotChange`] for what the server only takes at creation.
    pub async fn apply_topology(&self, topology: &Topology) -> Result<Vec<Applied>, TopologyError> {
        let mut applied = Vec::new();
        for item in topology.items() {
            applied.push(self.apply(&item).await?);
        }
        self.verify_topology(topology).await?;
        Ok(applied)
    }

    /// Whether the server holds what was declared. A stream in memory may be missing: the server
    /// forgets it at a restart, and [`Bus::keep_topology`] makes it again.
    ///
    /// # Errors
    /// [`TopologyError::Drift`] with every difference.
    pub async fn verify_topology(&self, topology: &Topology) -> Result<(), TopologyError> {
        let mut drift = Vec::new();
        for item in topology.items() {
            match self.look_up(&item).await? {
                None if item.is_fleeting => {}
                None => drift.push(format!("{} is missing", item.what)),
                Some(found) => {
                    let differences = differences(&item.config, &found);
                    if !differences.is_empty() {
                        drift.push(format!("{}: {}", item.what, differences.join(", ")));
                    }
                }
            }
        }
        if drift.is_empty() {
            Ok(())
        } else {
            Err(TopologyError::Drift(drift))
        }
    }

    /// Makes the streams in memory again whenever the server has forgotten them, until
    /// `shutdown`. One process that does so is enough, and several do no harm.
    pub async fn keep_topology(&self, topology: &Topology, shutdown: CancellationToken) {
        let mut connections = self.connections();
        connections.mark_changed();
        let fleeting: Vec<_> = topology.items().into_iter().filter(|item| item.is_fleeting).collect();
        while let Some(Ok(())) = shutdown.run_until_cancelled(connections.changed()).await {
            while let Err(error) = self.make_missing(&fleeting).await {
                tracing::warn!(%error, "streams in memory are not there yet");
                let paused = tokio::time::sleep(KEEP_PAUSE);
                if shutdown.run_until_cancelled(paused).await.is_none() {
                    return;
                }
            }
        }
    }

    async fn make_missing(&self, items: &[Item]) -> Result<(), TopologyError> {
        for item in items {
            if self.look_up(item).await?.is_none() {
                self.apply(item).await?;
            }
        }
        Ok(())
    }

    /// Creates or updates one consumer.
    pub(crate) async fn ensure_consumer(&self, consumer: &ConsumerSpec) -> Result<(), BusError> {
        let item = Item::consumer(consumer);
        match self
            .ask_jetstream(&item.create, &item.body, "create a consumer")
            .await?
        {
            Ok(_) => Ok(()),
            Err((code, description)) => Err(BusError::Refused {
                doing: format!("create {}", item.what),
                code,
                description,
            }),
        }
    }

    async fn apply(&self, item: &Item) -> Result<Applied, TopologyError> {
        let Some(found) = self.look_up(item).await? else {
            return match self.write(item, &item.create).await? {
                Ok(_) => Ok(Applied::Created(item.what.clone())),
                Err((code, description)) => {
                    let doing = format!("create the {}", item.what);
                    Err(item.failed(BusError::Refused {
                        doing,
                        code,
                        description,
                    }))
                }
            };
        };
        let differences = differences(&item.config, &found);
        if differences.is_empty() {
            return Ok(Applied::Unchanged(item.what.clone()));
        }
        match self.write(item, &item.update).await? {
            Ok(_) => Ok(Applied::Updated(item.what.clone(), differences)),
            Err((_, reason)) => Err(TopologyError::CannotChange {
                what: item.what.clone(),
                differences: differences.join(", "),
                reason,
            }),
        }
    }

    async fn look_up(&self, item: &Item) -> Result<Option<Value>, TopologyError> {
        let asked = self.ask_jetstream(&item.info, &json!({}), "read the topology").await;
        match asked.map_err(|error| item.failed(error))? {
            Ok(mut answer) => Ok(Some(answer["config"].take())),
            // A consumer of a missing stream is missing, too.
            Err((code, _)) if code == item.not_found || code == STREAM_NOT_FOUND => Ok(None),
            Err((code, description)) => {
                let doing = format!("read the {}", item.what);
                Err(item.failed(BusError::Refused {
                    doing,
                    code,
                    description,
                }))
            }
        }
    }

    async fn write(&self, item: &Item, endpoint: &str) -> Result<Result<Value, (u64, String)>, TopologyError> {
        let written = self.ask_jetstream(endpoint, &item.body, "apply the topology").await;
        written.map_err(|error| item.failed(error))
    }
}

impl Item {
    fn failed(&self, source: BusError) -> TopologyError {
        TopologyError::Bus {
            what: format!("the {} could not be applied or read", self.what),
            source,
        }
    }
}
