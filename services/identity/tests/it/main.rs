//! `identity` on a real nats-server and a fresh Postgres database per test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod audit;
mod chain;
mod enroll;
mod forgotten;
mod keys;
mod keys_on_nats;
mod matrix;
mod people;
mod providers;
mod raw;
mod sessions;
mod setup;
mod tickets;
mod users;
