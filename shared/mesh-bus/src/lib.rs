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
mod headers;
mod kv;
mod last;
mod publish;
mod pull;
mod read_back;
mod request;
mod server;
mod service;
mod subscribe;
pub mod topology;

pub use address::ServerAddress;
pub use connection::{Bus, BusOptions};
pub use consume::CONSUME_ATTEMPTS_MAX;
pub use delivery::{Delivery, Settled};
pub use discover::{EndpointStats, ServiceStats};
pub use error::{BusError, ServerRefused, TopologyError};
pub use headers::{Headers, TraceHooks, set_trace_hooks};
pub use kv::{KvEntry, KvWatch};
pub use publish::Stored;
pub use pull::Puller;
pub use server::{LazySync, SERVER_VERSION_MIN, ServerFacts};
pub use service::{ChunkSink, RawRequest, ServiceBuilder, ServiceHandle};
pub use subscribe::{Message, Subscription};
pub use topology::{Applied, Bucket, ConsumerSpec, StreamName, Topology};
