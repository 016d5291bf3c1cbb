//! What the mesh has on its NATS server: one table of streams, buckets and consumers.

use std::time::Duration;

use mesh_types::Subject;
use mesh_types::subject::Filter;

use super::{
    Bucket, Compression, ConsumerSpec, Discard, PersistMode, Retention, Storage, StreamName, StreamSpec, Topology,
};

const KIB: i64 = 1024;
const MIB: i64 = 1024 * KIB;
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// The server's `max_payload`; nothing larger reaches a stream.
const MESSAGE_BYTES_MAX: i64 = 8 * MIB;
/// The server's least: ids are compared across tenants, so they are deduplicated in Postgres.
const DUPLICATE_WINDOW_MIN: Duration = Duration::from_millis(100);
/// Presence lives three heartbeats of its node, each key by a time of its own; nodes beat every 600 s at the slowest.
const PRESENCE_MAX: Duration = Duration::from_secs(1_800);
/// The server lets no key live shorter than its marker would; nodes may beat every second, and a second is the least.
const PRESENCE_MARKER: Duration = Duration::from_secs(1);
/// A watch is a consumer: one per process and bucket.
const WATCHES_MAX: i64 = 1_000;

// Bytes of file streams are reserved when they are created: together they must fit the server's
// `max_file_store` on a small disk, and those in memory its `max_memory_store` of 256 MB.

/// The topology of one server.
#[must_use]
pub fn standard() -> Topology {
    Topology {
        streams: vec![invocations(), journal(), tokens(), events(), dead_letters()],
        buckets: vec![agents(), presence(), assignments(), pushes()],
        consumers: vec![intake(), audit()],
    }
}

/// The topology of as many servers as streams have copies: one server, or a cluster.
#[must_use]
pub fn replicated(replicas: u32) -> Topology {
    match replicas {
        0 | 1 => standard(),
        _ => on_cluster(replicas),
    }
}

/// The topology of a cluster: replicated, and the feed in memory, for the server refuses an
/// unsynced stream with replicas.
#[must_use]
pub fn on_cluster(replicas: u32) -> Topology {
    let mut topology = standard();
    for stream in topology.streams.iter_mut().chain(&mut topology.buckets) {
        stream.num_replicas = replicas;
        if stream.persist_mode == PersistMode::Async {
            stream.persist_mode = PersistMode::Default;
            stream.storage = Storage::Memory;
            stream.max_bytes = stream.max_bytes.min(64 * MIB);
        }
    }
    topology
}

/// The one consumer of INVOCATIONS: the owner of shard 0 pulls it.
#[must_use]
pub fn intake() -> ConsumerSpec {
    ConsumerSpec {
        stream: StreamName::Invocations,
        durable: "intake",
        ack_wait: Duration::from_secs(30),
        max_in_flight: 1_000,
        batch: 500,
    }
}

/// EVENTS for the audit: `identity` keeps what somebody asked for.
#[must_use]
pub fn audit() -> ConsumerSpec {
    ConsumerSpec {
        stream: StreamName::Events,
        durable: "audit",
        ack_wait: Duration::from_secs(30),
        max_in_flight: 1_000,
        batch: 500,
    }
}

/// What streams have in common.
fn stream(name: &str, description: &str, filters: &[Filter]) -> StreamSpec {
    StreamSpec {
        name: name.to_owned(),
        description: description.to_owned(),
        subjects: filters.iter().map(ToString::to_string).collect(),
        retention: Retention::Limits,
        storage: Storage::File,
        persist_mode: PersistMode::Default,
        discard: Discard::Old,
        max_msgs: 1_000_000,
        max_msgs_per_subject: -1,
        max_bytes: 256 * MIB,
        max_msg_size: MESSAGE_BYTES_MAX,
        max_age: 30 * DAY,
        max_consumers: 64,
        duplicate_window: DUPLICATE_WINDOW_MIN,
        num_replicas: 1,
        allow_direct: true,
        allow_rollup: false,
        deny_delete: true,
        deny_purge: false,
        allow_message_ttl: false,
        subject_delete_marker_ttl: Duration::ZERO,
        discard_new_per_subject: false,
        no_ack: false,
        sealed: false,
        compression: Compression::None,
    }
}

fn invocations() -> StreamSpec {
    StreamSpec {
        retention: Retention::WorkQueue,
        discard: Discard::New,
        max_bytes: 512 * MIB,
        // What is accepted waits until it is taken in, however long that is.
        max_age: Duration::ZERO,
        max_consumers: 1,
        deny_delete: false,
        ..stream(
            StreamName::Invocations.as_str(),
            "Durable inbox of the agents: acknowledged is accepted for good",
            &[Filter::Invocations, Filter::Only(Subject::RouterInvoke)],
        )
    }
}

fn journal() -> StreamSpec {
    StreamSpec {
        persist_mode: PersistMode::Async,
        max_msgs: 5_000_000,
        max_bytes: 1024 * MIB,
        max_age: 3 * DAY,
        ..stream(
            StreamName::Journal.as_str(),
            "Feed of committed records; may lose, is rebuilt from Postgres",
            &[Filter::JournalAll],
        )
    }
}

fn tokens() -> StreamSpec {
    StreamSpec {
        storage: Storage::Memory,
        max_bytes: 64 * MIB,
        max_msg_size: 256 * KIB,
        max_age: HOUR / 6,
        ..stream(
            StreamName::Tokens.as_str(),
            "Streamed tokens; superseded by the record of their step",
            &[Filter::TokensAll],
        )
    }
}

fn events() -> StreamSpec {
    StreamSpec {
        max_msg_size: MIB,
        duplicate_window: HOUR / 30,
        ..stream(StreamName::Events.as_str(), "Facts", &[Filter::Events])
    }
}

fn dead_letters() -> StreamSpec {
    StreamSpec {
        // Longer than any redelivery of the message that is buried again.
        duplicate_window: HOUR / 6,
        ..stream(
            StreamName::DeadLetters.as_str(),
            "What could not be handled, with its reason",
            &[Filter::Dead],
        )
    }
}

/// What buckets have in common: the conventions of key-value streams.
fn bucket(bucket: Bucket, description: &str) -> StreamSpec {
    StreamSpec {
        subjects: vec![format!("$KV.{}.>", bucket.name())],
        discard: Discard::New,
        max_msgs: -1,
        max_msgs_per_subject: 1,
        max_age: Duration::ZERO,
        max_msg_size: 64 * KIB,
        max_consumers: WATCHES_MAX,
        allow_rollup: true,
        ..stream(bucket.stream(), description, &[])
    }
}

fn agents() -> StreamSpec {
    StreamSpec {
        max_bytes: 64 * MIB,
        ..bucket(Bucket::Agents, "Pointers to published agents")
    }
}

fn presence() -> StreamSpec {
    StreamSpec {
        storage: Storage::Memory,
        max_bytes: 32 * MIB,
        max_age: PRESENCE_MAX,
        allow_message_ttl: true,
        subject_delete_marker_ttl: PRESENCE_MARKER,
        ..bucket(Bucket::Presence, "Nodes that are alive")
    }
}

fn assignments() -> StreamSpec {
    StreamSpec {
        max_bytes: 64 * MIB,
        max_msg_size: 512 * KIB,
        ..bucket(
            Bucket::Assignments,
            "What nodes are to run, and what new invocations go to",
        )
    }
}

/// A task that takes longer is told of no more.
const PUSHES_MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

fn pushes() -> StreamSpec {
    StreamSpec {
        max_bytes: 64 * MIB,
        max_age: PUSHES_MAX_AGE,
        ..bucket(Bucket::Pushes, "Who is told of A2A tasks")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_and_bucket_is_there_once_and_bounded() {
        let topology = standard();
        let names: Vec<_> = topology.streams.iter().map(|stream| stream.name.as_str()).collect();
        assert_eq!(names, StreamName::ALL.map(StreamName::as_str));
        let names: Vec<_> = topology.buckets.iter().map(|stream| stream.name.as_str()).collect();
        assert_eq!(names, Bucket::ALL.map(Bucket::stream));
        let mut memory = 0;
        for stream in topology.streams.iter().chain(&topology.buckets) {
            assert!(stream.max_bytes > 0 && stream.max_msg_size > 0, "{}", stream.name);
            assert!(stream.max_consumers > 0, "{}", stream.name);
            assert!(stream.duplicate_window >= DUPLICATE_WINDOW_MIN, "{}", stream.name);
            if stream.storage == Storage::Memory {
                memory += stream.max_bytes;
            }
        }
        assert!(memory <= 200 * MIB, "{memory}");
    }

    #[test]
    fn on_a_cluster_the_feed_is_in_memory_and_all_is_replicated() {
        let topology = on_cluster(3);
        let all: Vec<_> = topology.streams.iter().chain(&topology.buckets).collect();
        assert!(all.iter().all(|stream| stream.num_replicas == 3));
        assert!(all.iter().all(|stream| stream.persist_mode == PersistMode::Default));
        assert_eq!(topology.streams[1].storage, Storage::Memory);
        assert_eq!(topology.streams[0].storage, Storage::File);
    }

    #[test]
    fn a_subject_names_its_stream() {
        let invoke = Subject::Invoke {
            tenant: "default".parse().unwrap(),
            agent: "sofia".parse().unwrap(),
        };
        assert_eq!(StreamName::of(&invoke), Some(StreamName::Invocations));
        let bell = Subject::Bell {
            node: "n1".parse().unwrap(),
        };
        assert_eq!(StreamName::of(&bell), None);
    }
}
