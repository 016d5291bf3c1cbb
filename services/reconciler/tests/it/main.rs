//! `reconciler` against a real nats-server and a real Postgres; registry, heartbeat, execution and nodes are simulated on
//! the bus.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod assignments;
mod leaders;
mod services;
mod setup;
mod visibility;
