//! `registry` on a real nats-server and a fresh Postgres database per test.

mod agents;
mod events;
mod isolation;
mod outages;
mod pointers;
mod setup;
mod versions;
