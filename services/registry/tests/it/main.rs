//! `registry` on a real nats-server and a fresh Postgres database per test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod agents;
mod events;
mod isolation;
mod nodes;
mod outages;
mod placed;
mod pointers;
mod roads;
mod setup;
mod versions;
