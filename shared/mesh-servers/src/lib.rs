//! Finds or fetches nats-server and PostgreSQL with pgvector, starts, watches and stops them.
//! Synchronous and free of mesh crates, so that `xtask` builds in seconds: async callers wrap
//! these calls in `spawn_blocking`. What the servers are asked for lives in `mesh-bus` and
//! `mesh-store`.

mod account;
mod error;
mod files;
mod home;
mod nats;
mod nats_users;
mod place;
mod ports;
mod postgres;
mod probe;
mod process;
mod progress;
mod scratch;
mod tools;
mod version;

pub use error::ServersError;
pub use files::write_private;
pub use home::{HomeLock, HomeState, running, stop_running};
pub use nats::{NatsOptions, NatsServer};
pub use nats_users::{NatsPermissions, NatsSubjects, NatsUser, NatsUsers};
pub use place::remove_data;
pub use ports::{check_free, free_port};
pub use postgres::{Postgres, PostgresOptions};
pub use process::{Found, processes_with_environment};
pub use progress::{Progress, Quiet};
pub use scratch::ScratchDir;
pub use tools::{EmbedderWeights, NatsTool, PostgresTool, Tools};
pub use version::Version;

/// Environment variable of the NATS client port.
pub const NATS_PORT_VARIABLE: &str = "MESH_NATS_PORT";
/// Environment variable of the Postgres port.
pub const POSTGRES_PORT_VARIABLE: &str = "MESH_POSTGRES_PORT";
/// Environment variable of the gateway's HTTP port.
pub const HTTP_PORT_VARIABLE: &str = "MESH_HTTP_PORT";
