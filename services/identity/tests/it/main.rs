//! `identity` on a real nats-server and a fresh Postgres database per test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod audit;
mod enroll;
mod forgotten;
mod keys;
mod raw;
mod setup;
mod users;
