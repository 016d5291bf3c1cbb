//! The words of the table: what somebody does on the bus, and which subjects of the mesh and of JetStream's API it takes.

use std::collections::BTreeSet;
use std::fmt::Display;

use mesh_api::{Endpoint, StreamEndpoint};
use mesh_types::Token;
use mesh_types::subject::Filter;

use super::{Permissions, Rules};
use crate::topology::{self, Storage};
use crate::{Bucket, ConsumerSpec, StreamName};

/// Endpoints of the streaming services hear at this one that their caller has left.
const CANCEL_CALL: &str = "cancel-call";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    publish: BTreeSet<String>,
    publish_denied: BTreeSet<String>,
    subscribe: BTreeSet<String>,
}

impl Table {
    /// Its own inbox, where it also publishes to see that it is connected, and a look at what there is.
    pub(super) fn of(user: &str) -> Self {
        let inbox = Filter::InboxesOf(token(user).into());
        Self::default().says(&inbox).hears(&inbox).looks()
    }

    pub(super) fn says(mut self, filter: impl Display) -> Self {
        self.publish.insert(filter.to_string());
        self
    }

    pub(super) fn hears(mut self, filter: impl Display) -> Self {
        self.subscribe.insert(filter.to_string());
        self
    }

    /// What `nats` shows of streams and consumers; changes nothing.
    fn looks(self) -> Self {
        ["INFO", "STREAM.NAMES", "STREAM.LIST", "STREAM.INFO.*"]
            .into_iter()
            .chain(["CONSUMER.NAMES.*", "CONSUMER.LIST.*", "CONSUMER.INFO.*.*"])
            .fold(self, Self::api)
    }

    fn api(self, endpoint: impl Display) -> Self {
        self.says(format_args!("$JS.API.{endpoint}"))
    }

    /// Answers a service's endpoints, as services and as nodes ask them, and who asks what it is.
    ///
    /// Answers go to any inbox. `allow_responses` would bound them to who asked; but the server keeps each reply subject
    /// until its time is over, also the answered ones, and above 4,096 of them looks through all at every request: at
    /// some thousand requests a second and calls of minutes that is the whole server. An inbox's name has 22 random
    /// letters that only its owner and who was asked know.
    pub(super) fn serves(self, service: &str) -> Self {
        self.hears(Filter::AskedOf(token(service)))
            .hears(Filter::NodesAsk(token(service)))
            .hears("$SRV.*")
            .hears(format_args!("$SRV.*.{service}"))
            .hears(format_args!("$SRV.*.{service}.*"))
            .says(Filter::Inboxes)
            .keeps_streams()
    }

    pub(super) fn asks<E: Endpoint>(self) -> Self {
        self.says(E::subject())
    }

    pub(super) fn streams<E: StreamEndpoint>(self) -> Self {
        let leaves = mesh_types::Subject::Service {
            service: token(E::SERVICE),
            endpoint: token(CANCEL_CALL),
        };
        self.asks::<E>().says(leaves)
    }

    /// Asks who serves.
    pub(super) fn discovers(self) -> Self {
        self.says("$SRV.*").says("$SRV.*.*").says("$SRV.*.*.*")
    }

    /// Makes the streams again that the server holds in memory, here or on a cluster, and forgets at a restart.
    fn keeps_streams(self) -> Self {
        let all = [topology::standard(), topology::on_cluster(3)];
        let streams = all.iter().flat_map(|one| one.streams.iter().chain(&one.buckets));
        let fleeting = streams.filter(|stream| stream.storage == Storage::Memory);
        fleeting.fold(self, |table, stream| {
            table.api(format_args!("STREAM.CREATE.{}", stream.name))
        })
    }

    /// Brings the streams to what the topology says; purges none.
    pub(super) fn applies_topology(self) -> Self {
        let topology = topology::standard();
        let streams = topology.streams.iter().chain(&topology.buckets);
        let table = streams.fold(self, |table, stream| {
            let name = &stream.name;
            table
                .api(format_args!("STREAM.CREATE.{name}"))
                .api(format_args!("STREAM.UPDATE.{name}"))
        });
        topology.consumers.iter().fold(table, Self::makes_consumer)
    }

    fn makes_consumer(self, consumer: &ConsumerSpec) -> Self {
        let (stream, durable) = (consumer.stream.as_str(), consumer.durable);
        self.api(format_args!("CONSUMER.CREATE.{stream}.{durable}"))
    }

    /// Publishes facts of these kinds, durably.
    pub(super) fn tells(self, kinds: &[&str]) -> Self {
        let of = |kind: &&str| Filter::EventsAbout(token(kind));
        kinds
            .iter()
            .map(of)
            .fold(self, Self::says)
            .looks_up(StreamName::Events.as_str())
    }

    /// Hears facts of these kinds as they come.
    pub(super) fn hears_of(self, kinds: &[&str]) -> Self {
        kinds
            .iter()
            .fold(self, |table, kind| table.hears(Filter::EventsAbout(token(kind))))
    }

    /// Writes dead letters.
    pub(super) fn buries(self) -> Self {
        self.says(Filter::Dead).looks_up(StreamName::DeadLetters.as_str())
    }

    /// Reads what a stream keeps, one message or one batch at a time.
    pub(super) fn reads(self, stream: StreamName) -> Self {
        self.looks_up(stream.as_str())
    }

    fn looks_up(self, stream: &str) -> Self {
        self.api(format_args!("STREAM.MSG.GET.{stream}"))
            .api(format_args!("DIRECT.GET.{stream}"))
            .api(format_args!("DIRECT.GET.{stream}.>"))
    }

    /// Follows a stream by ordered consumers of its own. The durable ones of others are not its to change.
    pub(super) fn follows(self, stream: StreamName) -> Self {
        let consumers = topology::standard().consumers.into_iter();
        let mut table = self.reads(stream).watches(stream.as_str());
        for consumer in consumers.filter(|consumer| consumer.stream == stream) {
            let (stream, durable) = (stream.as_str(), consumer.durable);
            table.publish_denied.extend([
                format!("$JS.API.CONSUMER.CREATE.{stream}.{durable}"),
                format!("$JS.API.CONSUMER.CREATE.{stream}.{durable}.>"),
                format!("$JS.API.CONSUMER.DELETE.{stream}.{durable}"),
            ]);
        }
        table
    }

    fn watches(self, stream: &str) -> Self {
        self.api(format_args!("CONSUMER.CREATE.{stream}"))
            .api(format_args!("CONSUMER.CREATE.{stream}.>"))
            .api(format_args!("CONSUMER.DELETE.{stream}.*"))
            .says(format_args!("$JS.FC.{stream}.>"))
            .says(format_args!("$JS.FC.*.*.{stream}.>"))
    }

    /// Takes the messages of a durable consumer, and settles them.
    pub(super) fn pulls(self, consumer: &ConsumerSpec) -> Self {
        let (stream, durable) = (consumer.stream.as_str(), consumer.durable);
        self.makes_consumer(consumer)
            .api(format_args!("CONSUMER.MSG.NEXT.{stream}.{durable}"))
            .says(format_args!("$JS.ACK.{stream}.{durable}.>"))
            .says(format_args!("$JS.ACK.*.*.{stream}.{durable}.>"))
            .buries()
    }

    /// Reads keys of a bucket, lists and watches it.
    pub(super) fn reads_keys(self, bucket: Bucket) -> Self {
        self.looks_up(bucket.stream()).watches(bucket.stream())
    }

    pub(super) fn writes_keys(self, bucket: Bucket) -> Self {
        self.reads_keys(bucket).says(format_args!("$KV.{}.>", bucket.name()))
    }

    /// Copies streams out; changes nothing. The server counts what it has sent by the answers to it.
    pub(super) fn copies_streams_out(self) -> Self {
        self.verb_of_streams("SNAPSHOT").says("$JS.SNAPSHOT.ACK.>")
    }

    /// Puts copies in the place of the streams that are there.
    pub(super) fn copies_streams_in(self) -> Self {
        self.verb_of_streams("DELETE")
            .verb_of_streams("RESTORE")
            .says("$JS.SNAPSHOT.RESTORE.>")
    }

    fn verb_of_streams(self, verb: &str) -> Self {
        let topology = topology::standard();
        let streams = topology.streams.iter().chain(&topology.buckets);
        streams.fold(self, |table, stream| {
            table.api(format_args!("STREAM.{verb}.{}", stream.name))
        })
    }

    /// All that both may. What the other one is denied counts here only as far as nobody is allowed it.
    pub(super) fn with(mut self, other: Self) -> Self {
        self.publish.extend(other.publish);
        self.publish_denied.extend(other.publish_denied);
        self.subscribe.extend(other.subscribe);
        let publish = &self.publish;
        self.publish_denied.retain(|denied| !publish.contains(denied));
        self
    }

    pub(super) fn permissions(self) -> Permissions {
        let rules = |allow: BTreeSet<String>, deny: BTreeSet<String>| Rules {
            allow: allow.into_iter().collect(),
            deny: deny.into_iter().collect(),
        };
        Permissions {
            publish: rules(self.publish, self.publish_denied),
            subscribe: rules(self.subscribe, BTreeSet::new()),
        }
    }
}

pub(super) fn token(text: &str) -> Token {
    text.parse().expect("words of this table are tokens")
}
