//! The roads of the mesh, and the only crate that knows the NATS client: core messages, durable
//! publishes, request/reply, consumers, key-value buckets, topology. What travels is defined in
//! `mesh-types` and `mesh-api`.

mod address;
mod api;
mod call;
mod call_stream;
mod connection;
mod consume;
mod dead;
mod delivery;
mod discover;
mod error;
mod follow;
mod headers;
mod kv;
mod last;
mod monitor;
mod observe;
pub mod permissions;
mod publish;
mod pull;
mod read_back;
mod request;
mod server;
mod service;
mod snapshot;
mod subscribe;
pub mod topology;
mod traced;

pub use address::ServerAddress;
pub use connection::{Bus, BusOptions};
pub use consume::CONSUME_ATTEMPTS_MAX;
pub use delivery::{Delivery, Settled};
pub use discover::{EndpointData, EndpointStats, ServiceStats};
pub use error::{BusError, ServerRefused, TopologyError};
pub use follow::{Numbered, StreamExtent, StreamFollower};
pub use headers::Headers;
pub use kv::{KvEntry, KvWatch};
pub use monitor::{ConsumerFigures, Monitored, ServerFigures, StreamFigures};
pub use observe::{Answered, EndpointObserver, Observer, Traffic};
pub use publish::Stored;
pub use pull::Puller;
pub use server::{LazySync, SERVER_VERSION_MIN, ServerFacts};
pub use service::{ChunkSink, RawRequest, ServiceBuilder, ServiceHandle};
pub use snapshot::{StreamRestore, StreamSnapshot};
pub use subscribe::{Message, Subscription};
pub use topology::{Applied, Bucket, ConsumerSpec, StreamName, Topology};
