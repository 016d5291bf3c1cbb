//! Tunnels on a real nats-server, with nodes that speak real frames.

mod ag_ui;
pub(crate) mod client;
mod events;
mod node;
mod posts;
mod rights;
mod sockets;
pub(crate) mod stage;
