//! The topology as a value: every stream, bucket and consumer with every limit. Rendered to
//! `nats/topology.json`, applied by one idempotent step, verified at each start. Nothing here or
//! elsewhere deletes a stream.

mod apply;
mod compare;
mod standard;

use std::time::Duration;

use mesh_types::Subject;
use serde::{Serialize, Serializer};

pub use apply::Applied;
pub use standard::{audit, intake, on_cluster, replicated, standard};

/// The streams of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamName {
    /// Durable inbox of the agents.
    Invocations,
    /// Feed of committed records.
    Journal,
    /// Streamed tokens.
    Tokens,
    /// Facts.
    Events,
    /// What could not be handled.
    DeadLetters,
}

impl StreamName {
    pub const ALL: [Self; 5] = [
        Self::Invocations,
        Self::Journal,
        Self::Tokens,
        Self::Events,
        Self::DeadLetters,
    ];

    /// Its name on the server.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invocations => "INVOCATIONS",
            Self::Journal => "JOURNAL",
            Self::Tokens => "TOKENS",
            Self::Events => "EVENTS",
            Self::DeadLetters => "DEAD_LETTERS",
        }
    }

    /// The stream that takes a subject.
    #[must_use]
    pub const fn of(subject: &Subject) -> Option<Self> {
        match subject {
            Subject::Invoke { .. } | Subject::RouterInvoke => Some(Self::Invocations),
            Subject::Journal { .. } | Subject::JournalMark { .. } => Some(Self::Journal),
            Subject::Tokens { .. } => Some(Self::Tokens),
            Subject::Event { .. } => Some(Self::Events),
            Subject::Dead { .. } => Some(Self::DeadLetters),
            _ => None,
        }
    }
}

/// The key-value buckets of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// Pointers to published agents: `<tenant>.<agent>`.
    Agents,
    /// Nodes that are alive.
    Presence,
    /// What nodes are to run (`node.<node>`), and what new invocations go to (`agent.<tenant>.<agent>`).
    Assignments,
    /// Who is told of A2A tasks, and how far: `<tenant>.<invocation>.<configuration>`.
    Pushes,
}

impl Bucket {
    pub const ALL: [Self; 4] = [Self::Agents, Self::Presence, Self::Assignments, Self::Pushes];

    /// Its name on the server.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agents => "AGENTS",
            Self::Presence => "PRESENCE",
            Self::Assignments => "ASSIGNMENTS",
            Self::Pushes => "A2A_PUSH",
        }
    }

    /// The stream behind it.
    #[must_use]
    pub const fn stream(self) -> &'static str {
        match self {
            Self::Agents => "KV_AGENTS",
            Self::Presence => "KV_PRESENCE",
            Self::Assignments => "KV_ASSIGNMENTS",
            Self::Pushes => "KV_A2A_PUSH",
        }
    }
}

/// Everything that must be on the server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Topology {
    pub streams: Vec<StreamSpec>,
    /// Buckets are streams with the server's conventions.
    pub buckets: Vec<StreamSpec>,
    pub consumers: Vec<ConsumerSpec>,
}

/// A stream's whole configuration, as the server's API spells it; no default of the server is
/// trusted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamSpec {
    pub name: String,
    pub description: String,
    pub subjects: Vec<String>,
    pub retention: Retention,
    pub storage: Storage,
    /// When an acknowledged message is on disk.
    pub persist_mode: PersistMode,
    pub discard: Discard,
    pub max_msgs: i64,
    pub max_msgs_per_subject: i64,
    pub max_bytes: i64,
    /// Largest message in bytes, its headers included.
    pub max_msg_size: i64,
    #[serde(rename = "max_age", serialize_with = "nanoseconds")]
    pub max_age: Duration,
    pub max_consumers: i64,
    /// How long a message id is remembered; at least 100 ms.
    #[serde(rename = "duplicate_window", serialize_with = "nanoseconds")]
    pub duplicate_window: Duration,
    pub num_replicas: u32,
    pub allow_direct: bool,
    #[serde(rename = "allow_rollup_hdrs")]
    pub allow_rollup: bool,
    pub deny_delete: bool,
    pub deny_purge: bool,
    #[serde(rename = "allow_msg_ttl")]
    pub allow_message_ttl: bool,
    /// How long the marker of an expired key lives; zero: there is none.
    #[serde(serialize_with = "nanoseconds")]
    pub subject_delete_marker_ttl: Duration,
    pub discard_new_per_subject: bool,
    pub no_ack: bool,
    pub sealed: bool,
    pub compression: Compression,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Retention {
    Limits,
    WorkQueue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    File,
    Memory,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PersistMode {
    /// Before the acknowledgement, by the server's `sync_interval: always`.
    Default,
    /// Some time after it: for what can be rebuilt.
    Async,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Discard {
    Old,
    New,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    None,
}

/// A durable pull consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerSpec {
    pub stream: StreamName,
    pub durable: &'static str,
    /// How long a delivered message may stay unsettled before it is delivered again.
    pub ack_wait: Duration,
    /// Most messages delivered and not settled, over all processes.
    pub max_in_flight: usize,
    /// Most messages of one pull.
    pub batch: usize,
}

fn nanoseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

impl Serialize for ConsumerSpec {
    /// As the server's API spells it, with the stream beside it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = serde_json::json!({
            "stream_name": self.stream.as_str(),
            "config": self.config(),
        });
        value.serialize(serializer)
    }
}
