//! `messaging` on a real nats-server and a fresh Postgres database per test.

mod events;
mod history;
mod outages;
mod posts;
mod setup;
