//! Tunnels on a real nats-server, with nodes that speak real frames.

pub(crate) mod client;
mod events;
mod node;
mod posts;
mod rights;
mod sockets;
pub(crate) mod stage;
