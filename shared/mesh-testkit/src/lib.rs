//! What tests share: a nats-server of their own, a fresh database with the migrations, waiting for
//! a condition, delivering twice. Failures panic; nothing here is for production.

mod database;
mod nats;
mod roads;
mod wait;
mod weights;

pub use database::TestDatabase;
pub use mesh_servers::{NatsOptions, free_port};
pub use nats::TestNats;
pub use roads::TestRoads;
pub use wait::{deliver_twice, wait_until};
pub use weights::embedder_weights;
