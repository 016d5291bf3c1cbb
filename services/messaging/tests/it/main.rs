//! `messaging` on a real nats-server and a fresh Postgres database per test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod events;
mod history;
mod outages;
mod posts;
mod roads;
mod setup;
