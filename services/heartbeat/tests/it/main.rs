//! `heartbeat` against a nats-server and a Postgres of its own.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and its tasks end with it"
)]

mod forged;
mod health;
mod life;
mod modes;
mod outages;
mod reports;
mod setup;
