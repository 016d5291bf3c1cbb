//! Errors of the bus. Across the bus they travel as a `Problem`.

use std::time::Duration;

use mesh_types::{Code, Problem};

/// Why the bus could not do it.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The address or the credentials cannot be used at all.
    #[error("the NATS address `{url}` cannot be used")]
    Address {
        url: String,
        #[source]
        source: async_nats::ConnectError,
    },
    /// Nobody answers at the address, or what answers is no NATS.
    #[error("NATS at `{url}` cannot be reached")]
    Unreachable {
        url: String,
        #[source]
        source: async_nats::ConnectError,
    },
    /// The server does not let this credential in.
    #[error("NATS at `{url}` refuses the credential")]
    CredentialRefused { url: String },
    /// The connection is down and what waits for it has reached its bound.
    #[error("not connected to NATS while about to {doing}")]
    Disconnected { doing: &'static str },
    /// Nothing was sent.
    #[error("a message of {bytes} bytes is over the server's limit of {bytes_max} bytes")]
    TooLarge { bytes: usize, bytes_max: usize },
    /// No stream takes the subject; the topology is not applied, or JetStream is off.
    #[error("no stream takes `{subject}`: is the topology applied (`mesh migrate`)?")]
    NoStream { subject: String },
    /// JetStream said no; nothing was stored.
    #[error("JetStream refused to {doing}: {description} ({code})")]
    Refused {
        doing: String,
        code: u64,
        description: String,
    },
    /// No answer: it may have happened or not.
    #[error("no answer within {waited:?} to: {doing}; whether it happened is unknown")]
    Unknown { doing: String, waited: Duration },
    /// An answer that is none.
    #[error("an answer to `{doing}` cannot be read")]
    Answer {
        doing: String,
        #[source]
        source: serde_json::Error,
    },
    /// A key of a bucket outside `[-/_=.A-Za-z0-9]+`.
    #[error("`{key}` is no key of a bucket")]
    Key { key: String },
    /// The client failed.
    #[error("the NATS client could not {doing}")]
    Client {
        doing: &'static str,
        #[source]
        source: async_nats::Error,
    },
}

impl BusError {
    /// Whether the same call may succeed later without a change by the caller.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Disconnected { .. } | Self::NoStream { .. } | Self::Unknown { .. } => true,
            // A full stream empties; so does JetStream's own overload.
            Self::Refused { code, .. } => matches!(code, 10_008 | 10_023 | 10_047 | 10_077),
            Self::Client { .. } => true,
            Self::CredentialRefused { .. } => false,
            Self::Address { .. } | Self::TooLarge { .. } | Self::Answer { .. } | Self::Key { .. } => false,
        }
    }

    pub(crate) fn client(doing: &'static str) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> Self {
        move |source| Self::Client { doing, source }
    }
}

impl From<BusError> for Problem {
    fn from(error: BusError) -> Self {
        let code = match &error {
            BusError::TooLarge { .. } => Code::BodyTooLarge,
            BusError::Key { .. } => Code::InvalidName,
            BusError::Unknown { .. } => Code::Timeout,
            error if error.is_transient() => Code::Unavailable,
            _ => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

/// Why a topology could not be applied, or is not what is there.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// JetStream could not be asked.
    #[error("{what}")]
    Bus {
        what: String,
        #[source]
        source: BusError,
    },
    /// What is there differs, and the server refuses to change it. Nothing was deleted.
    #[error("{what} differs from the topology ({differences}) and cannot be changed in place: {reason}")]
    CannotChange {
        what: String,
        differences: String,
        reason: String,
    },
    /// What is there is not what was declared.
    #[error("{}; apply the topology with `mesh migrate`", .0.join("; "))]
    Drift(Vec<String>),
}

/// Why this server is not trusted with work.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerRefused {
    /// There is no server yet.
    #[error("not connected to NATS at {url}")]
    NotConnected { url: String },
    /// Before 2.15.1 a work queue's compaction could skip the sync.
    #[error("nats-server {found} is too old: at least {needed} is needed, for older ones lose acknowledged messages")]
    TooOld { found: String, needed: String },
    /// Streams need JetStream.
    #[error("nats-server at {url} runs without JetStream: start it with a `jetstream {{ }}` block")]
    NoJetStream { url: String },
    /// A power cut would lose acknowledged messages.
    #[error(
        "nats-server syncs lazily: a power cut would lose acknowledged messages; set `sync_interval: always` in its `jetstream {{ }}` block, or accept the risk with MESH_ALLOW_LAZY_SYNC=1"
    )]
    LazySync,
    /// Unseen counts as without.
    #[error(
        "whether nats-server syncs before it acknowledges cannot be seen ({why}): name its HTTP monitoring in MESH_NATS_MONITOR_URL, or accept the risk with MESH_ALLOW_LAZY_SYNC=1"
    )]
    Unseen { why: String },
}
