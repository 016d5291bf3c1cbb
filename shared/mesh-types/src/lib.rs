//! Words of the mesh as types: ids, names, subjects, events, problems, declared agents, clocks. No I/O.

pub mod agent;
mod agent_rules;
pub mod content;
pub mod event;
pub mod fleet;
pub mod fleet_policy;
pub mod id;
pub mod json;
mod memory_rules;
pub mod name;
mod placement;
pub mod problem;
mod runtimes;
mod span;
pub mod subject;
pub mod time;
pub mod tool;

pub use id::{
    ChunkId, DeadLetterId, DocumentId, EventId, ExchangeId, Id, IdError, IdSource, InstanceId, InvocationId, MemoryId,
    PassId, ReceiptId, ReplicaId, RequestId, TunnelId,
};
pub use name::{AgentName, ChannelId, MessageId, NameError, NodeId, Tenant, Token};
pub use problem::{Code, Problem};
pub use subject::Subject;
pub use time::{Clock, SystemClock, Timestamp};
