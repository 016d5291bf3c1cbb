//! Integration tests of memory: a real nats-server and a fresh database per test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod embedders;
mod events;
mod pending;
mod roads;
mod search;
mod setup;
mod stores;
