//! Integration tests of memory: a real nats-server and a fresh database per test.

mod embedders;
mod events;
mod pending;
mod search;
mod setup;
mod stores;
